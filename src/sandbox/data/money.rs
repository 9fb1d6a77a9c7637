//! Amounts: whole cents inside, and the renderings that impact.com mixes outside.

use std::fmt::Write as _;

/// An amount of money in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cents(pub i64);

impl Cents {
    /// `per_cent` hundredths of this amount, rounded towards zero.
    pub fn share(self, per_cent: i64) -> Self {
        Self(self.0 * per_cent / 100)
    }

    /// Appends `21.99`, or `21.990000000000000000` where `long`.
    pub fn write(self, long: bool, out: &mut String) {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100);
        let zeros = if long { "0000000000000000" } else { "" };
        let _ = write!(out, "{sign}{whole}.{rest:02}{zeros}");
    }
}

impl std::ops::AddAssign for Cents {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_their_sign_and_their_cents() {
        let text = |cents: i64, long| {
            let mut out = String::new();
            Cents(cents).write(long, &mut out);
            out
        };
        assert_eq!(text(2199, false), "21.99");
        assert_eq!(text(-5, false), "-0.05");
        assert_eq!(text(500, true), "5.000000000000000000");
    }
}
