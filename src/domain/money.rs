//! Money, exact.

use std::fmt;
use std::ops::AddAssign;

/// US dollars, in whole picodollars (10⁻¹²): a price of six decimals by the million tokens is a whole number of them by the token, so that no sum ever
/// rounds. At most 18 million dollars; sums stop there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Picodollars in a dollar.
    pub const PICOS: u64 = 1_000_000_000_000;

    /// So many picodollars.
    #[must_use]
    pub const fn from_picos(picos: u64) -> Self {
        Self(picos)
    }

    /// In picodollars.
    #[must_use]
    pub const fn picos(self) -> u64 {
        self.0
    }

    /// So many times as much.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

/// As a decimal number of dollars, exact, without trailing zeros: `0.0125`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, picos) = (self.0 / Self::PICOS, self.0 % Self::PICOS);
        if picos == 0 {
            return write!(f, "{dollars}");
        }
        let decimals = format!("{picos:012}");
        write!(f, "{dollars}.{}", decimals.trim_end_matches('0'))
    }
}

/// What an exchange cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cost {
    /// It used nothing that is priced.
    #[default]
    Nothing,
    /// So much.
    Priced(Usd),
    /// It used what no price is known for: not the same as free.
    Unpriced,
}

/// What is known of both: an unknown price adds nothing to a known sum.
impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = match (*self, other) {
            (Self::Priced(mut sum), Self::Priced(more)) => {
                sum += more;
                Self::Priced(sum)
            }
            (priced @ Self::Priced(_), _) | (_, priced @ Self::Priced(_)) => priced,
            (Self::Unpriced, _) | (_, Self::Unpriced) => Self::Unpriced,
            (Self::Nothing, Self::Nothing) => Self::Nothing,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_written_exactly() {
        for (picos, text) in
            [(0, "0"), (1, "0.000000000001"), (12_500_000_000, "0.0125"), (3 * Usd::PICOS, "3"), (u64::MAX, "18446744.073709551615")]
        {
            assert_eq!(Usd::from_picos(picos).to_string(), text);
        }
    }

    #[test]
    fn sums_stop_at_the_end() {
        let mut sum = Usd::from_picos(u64::MAX);
        sum += Usd::from_picos(1);
        assert_eq!(sum, Usd::from_picos(u64::MAX).times(2));
    }
}
