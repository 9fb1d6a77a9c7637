//! Hashes by which keys are compared: over a key's values as Postgres sends them, so that equal keys have equal hashes.

use chrono_tz::Tz;
use xxhash_rust::xxh3::xxh3_128;

use super::diff::Identity;
use super::value::Format;
use crate::column::ColumnKind;

/// Builds the hash of one key after the other.
#[derive(Default)]
pub(super) struct KeyHasher {
    values: Vec<u8>,
    sent: Vec<u8>,
}

impl KeyHasher {
    pub fn begin(&mut self) {
        self.values.clear();
    }

    /// Adds a value as it stands in a file; `false` where it is missing or does not fit.
    pub fn add_text(&mut self, format: Format, text: &[u8], zone: Tz) -> bool {
        let mut sent = std::mem::take(&mut self.sent);
        sent.clear();
        let kind = format.kind.filter(|_| format.put(&mut sent, text, zone) == Ok(false));
        if let Some(kind) = kind {
            self.add(kind, &sent[size_of::<i32>()..]);
        }
        self.sent = sent;
        kind.is_some()
    }

    /// Adds a value as binary COPY has it, without its length.
    pub fn add(&mut self, kind: ColumnKind, sent: &[u8]) {
        let from = self.values.len();
        match kind {
            ColumnKind::Numeric => self.add_numeric(sent),
            ColumnKind::Boolean
            | ColumnKind::Bigint
            | ColumnKind::Date
            | ColumnKind::Timestamptz
            | ColumnKind::Text => self.values.extend_from_slice(sent),
        }
        // Behind each value its length, so that none runs into the next.
        let length = self.values.len() - from;
        self.values.extend_from_slice(&length.to_be_bytes());
    }

    /// Adds the digits and their place alone: `1.0` and `1.00` are one key. The parts are the count of digits, the weight of the
    /// first, the sign and the scale for show, two bytes each; then the digits, to the base of 10,000.
    fn add_numeric(&mut self, sent: &[u8]) {
        const HEAD: usize = 8;
        const ZERO: [u8; 2] = [0; 2];
        let Some((head, digits)) = sent.split_at_checked(HEAD) else { return self.values.extend_from_slice(sent) };
        let digits: Vec<_> = digits.chunks_exact(2).collect();
        let leading = digits.iter().take_while(|digit| **digit == ZERO).count();
        let trailing = digits[leading..].iter().rev().take_while(|digit| **digit == ZERO).count();
        let digits = &digits[leading..digits.len() - trailing];
        let is_a_number = matches!(head[4], 0x00 | 0x40);
        if digits.is_empty() && is_a_number {
            return self.values.push(0);
        }
        let weight = i64::from(i16::from_be_bytes([head[2], head[3]])) - i64::try_from(leading).expect("a few digits");
        self.values.extend_from_slice(&weight.to_be_bytes());
        self.values.extend_from_slice(&head[4..6]);
        for digit in digits {
            self.values.extend_from_slice(digit);
        }
    }

    pub fn finish(&self) -> Identity {
        xxh3_128(&self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Identity {
        let count = u16::try_from(digits.len()).unwrap();
        let mut sent = Vec::new();
        for part in [count, weight.cast_unsigned(), sign, scale].iter().chain(digits) {
            sent.extend_from_slice(&part.to_be_bytes());
        }
        let mut hasher = KeyHasher::default();
        hasher.begin();
        hasher.add(ColumnKind::Numeric, &sent);
        hasher.finish()
    }

    #[test]
    fn equal_numbers_are_one_key_however_they_are_shown() {
        assert_eq!(numeric(0, 0, 1, &[1, 5000]), numeric(0, 0, 4, &[1, 5000]));
        assert_eq!(numeric(0, 0, 1, &[1, 5000]), numeric(1, 0, 8, &[0, 1, 5000, 0]));
        assert_eq!(numeric(0, 0, 0, &[]), numeric(0, 0, 2, &[0]));
        assert_eq!(numeric(0, 0x4000, 0, &[0]), numeric(3, 0, 2, &[]));
        for other in [numeric(1, 0, 1, &[1, 5000]), numeric(0, 0x4000, 1, &[1, 5000]), numeric(0, 0xC000, 0, &[])] {
            assert_ne!(numeric(0, 0, 1, &[1, 5000]), other);
            assert_ne!(numeric(0, 0, 0, &[]), other);
        }
    }

    #[test]
    fn values_do_not_run_into_each_other() {
        let text = |values: [&str; 2]| {
            let mut hasher = KeyHasher::default();
            hasher.begin();
            for value in values {
                hasher.add(ColumnKind::Text, value.as_bytes());
            }
            hasher.finish()
        };
        assert_ne!(text(["ab", "c"]), text(["a", "bc"]));
        assert_eq!(text(["ab", "c"]), text(["ab", "c"]));
    }
}
