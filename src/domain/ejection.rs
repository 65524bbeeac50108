//! What upstreams tell of their health, for the record.

/// Why an upstream was ejected: left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ejection {
    /// Too many failures in a row.
    Failures,
    /// Too large a share of failures.
    ErrorRate,
    /// Too large a share of answers whose first byte was late.
    FirstByte,
    /// It was ejected, and the try that was to find out whether it is well again failed.
    Probe,
}

impl Ejection {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Failures, Self::ErrorRate, Self::FirstByte, Self::Probe];

    /// The label in `tollgate_upstream_ejections_total{why}`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::ErrorRate => "error_rate",
            Self::FirstByte => "first_byte",
            Self::Probe => "probe",
        }
    }
}
