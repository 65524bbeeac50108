//! Where a caller stands under the limits, in the headers that OpenAI's API has for it and its clients read ("Rate limits in headers", OpenAI's API guide).

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use pingora::Result;
use pingora::http::ResponseHeader;
use smallvec::SmallVec;

use crate::limits::{Rates, Standing};

/// Of requests: how many, how many of them are left, and when all are there again.
const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];

/// The same of tokens.
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// Tells the client in `head` where it stands, of what some rule counts. An upstream's own word for the same gives way: it is of the account, and no
/// concern of one of its callers.
pub(super) fn tell(head: &mut ResponseHeader, rates: &Rates) -> Result<()> {
    for (names, standing) in [(REQUESTS, &rates.requests), (TOKENS, &rates.tokens)] {
        let Some(standing) = standing else { continue };
        for (name, value) in names.iter().zip(values(standing)) {
            head.insert_header(name, value)?;
        }
    }
    Ok(())
}

fn values(standing: &Standing) -> [HeaderValue; 3] {
    let scale = standing.count.scale();
    [HeaderValue::from(standing.limit / scale), HeaderValue::from(standing.remaining() / scale), span(standing.reset)]
}

/// Digits and units of the longest time.
type Text = SmallVec<[u8; 32]>;

/// A time as OpenAI writes it: `120ms`, `1s`, `6m0s`, `23h59m59s`. Rounded up, so that whoever waits for so long finds what was promised.
fn span(time: Duration) -> HeaderValue {
    let mut text = Text::new();
    let millis = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    if (1..1_000).contains(&millis) {
        part(&mut text, millis, b"ms");
    } else {
        let seconds = millis.div_ceil(1_000);
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        if hours > 0 {
            part(&mut text, hours, b"h");
        }
        if hours > 0 || minutes > 0 {
            part(&mut text, minutes, b"m");
        }
        part(&mut text, seconds % 60, b"s");
    }
    // Digits and letters: they are a value.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0s"))
}

fn part(text: &mut Text, value: u64, unit: &[u8]) {
    digits(text, value);
    text.extend_from_slice(unit);
}

fn digits(text: &mut Text, value: u64) {
    if value >= 10 {
        digits(text, value / 10);
    }
    text.push(b'0' + u8::try_from(value % 10).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limits::Count;

    fn standing(count: Count, used: u64, reset: Duration) -> Standing {
        Standing { rule: "rule".into(), count, limit: 100 * count.scale(), used, held: 0, reset, ends: None }
    }

    #[test]
    fn a_time_is_written_as_openai_writes_it_and_rounded_up() {
        for (time, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ms"),
            (Duration::from_millis(120), "120ms"),
            (Duration::from_nanos(998_000_001), "999ms"),
            (Duration::from_micros(999_001), "1s"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_millis(1_001), "2s"),
            (Duration::from_secs(59), "59s"),
            (Duration::from_millis(59_001), "1m0s"),
            (Duration::from_mins(6), "6m0s"),
            (Duration::from_hours(1), "1h0m0s"),
            (Duration::from_secs(86_399), "23h59m59s"),
            (Duration::from_hours(31 * 24), "744h0m0s"),
        ] {
            assert_eq!(span(time), text, "{time:?}");
        }
        assert!(span(Duration::MAX).len() <= 32);
    }

    #[test]
    fn what_no_rule_counts_is_left_to_the_upstream_and_what_one_counts_is_ours() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for name in ["x-ratelimit-limit-tokens", "X-RateLimit-Remaining-Tokens", "x-ratelimit-limit-requests"] {
            head.append_header(name, "7").unwrap();
        }
        let tokens = Some(standing(Count::Tokens, 500, Duration::from_secs(61)));
        tell(&mut head, &Rates { requests: None, tokens }).unwrap();
        let all = |name: &str| head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-ratelimit-limit-tokens"), ["100"]);
        assert_eq!(all("x-ratelimit-remaining-tokens"), ["99"], "half a token is none");
        assert_eq!(all("x-ratelimit-reset-tokens"), ["1m1s"]);
        assert_eq!(all("x-ratelimit-limit-requests"), ["7"]);
        assert_eq!(all("x-ratelimit-reset-requests"), Vec::<&str>::new());
    }
}
