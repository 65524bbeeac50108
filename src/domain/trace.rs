//! Which trace an exchange belongs to (W3C Trace Context).

/// One exchange's place in a trace: <https://www.w3.org/TR/trace-context/>, `traceparent` of version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace; never zero.
    pub trace_id: u128,
    /// The caller's span, where the caller told one.
    pub parent: Option<u64>,
    /// The span of our call of the upstream, and the parent of what the upstream does; never zero.
    pub span_id: u64,
    /// Whether the caller records the trace; once the exchange has begun, whether we do.
    pub sampled: bool,
}

impl Trace {
    /// Takes up the trace that `traceparent` tells, or begins one, unsampled, where it tells none or is not well formed.
    #[must_use]
    pub fn take_up(traceparent: Option<&[u8]>) -> Self {
        let span_id = fastrand::u64(1..);
        match traceparent.and_then(parse) {
            Some((trace_id, parent, sampled)) => Self { trace_id, parent: Some(parent), span_id, sampled },
            None => Self { trace_id: fastrand::u128(1..), parent: None, span_id, sampled: false },
        }
    }

    /// The `traceparent` for the upstream.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// The trace, the span and the flag of a header. A version to come may have more behind the flags; `ff` is none.
fn parse(header: &[u8]) -> Option<(u128, u64, bool)> {
    let text = std::str::from_utf8(header).ok()?;
    let mut parts = text.split('-');
    let version = field(parts.next()?, 2)?;
    let trace_id = field(parts.next()?, 32)?;
    let span_id = u64::try_from(field(parts.next()?, 16)?).ok()?;
    let flags = field(parts.next()?, 2)?;
    let well_formed = version != 0xff && (version != 0 || parts.next().is_none()) && trace_id != 0 && span_id != 0;
    well_formed.then_some((trace_id, span_id, flags & 1 == 1))
}

/// So many digits of lower-case hex.
fn field(text: &str, digits: usize) -> Option<u128> {
    let well_formed = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    well_formed.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_is_taken_up_and_passed_on_under_a_span_of_our_own() {
        let trace = Trace::take_up(Some(HEADER.as_bytes()));
        assert_eq!((trace.trace_id, trace.parent), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, Some(0x00f0_67aa_0ba9_02b7)));
        assert!(trace.sampled);
        assert_eq!(Trace::take_up(Some(trace.traceparent().as_bytes())).parent, Some(trace.span_id));
        assert!(trace.traceparent().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    }

    #[test]
    fn what_is_not_well_formed_begins_a_trace() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let trace = Trace::take_up(Some(bad.as_bytes()));
            assert_eq!((trace.parent, trace.sampled), (None, false), "{bad}");
            assert!(trace.trace_id != 0 && trace.span_id != 0);
        }
        let later = Trace::take_up(Some(b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more"));
        assert!(later.parent.is_some() && later.sampled);
    }
}
