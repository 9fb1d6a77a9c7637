//! Chance that can be repeated: the same parts always give the same throws.

/// A sequence of throws that depends on nothing but the parts it was made from.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice for whatever `parts` name: seed, program, day, index.
    pub fn new(parts: &[u64]) -> Self {
        Self(parts.iter().fold(0x9E37_79B9_7F4A_7C15, |state, part| mix(state ^ mix(*part))))
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number from 0 to `bound - 1`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let throw = self.next();
        if bound == 0 { 0 } else { throw % bound }
    }

    /// Whether something happens that happens `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).unwrap_or_default()]
    }
}

/// The finaliser of SplitMix64.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A number for a text, the same in every build.
pub fn number_of(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_give_the_same_throws_and_others_do_not() {
        let throws = |parts: &[u64]| {
            let mut dice = Dice::new(parts);
            [dice.next(), dice.next(), dice.next()]
        };
        assert_eq!(throws(&[1, 2, 3]), throws(&[1, 2, 3]));
        assert_ne!(throws(&[1, 2, 3]), throws(&[1, 2, 4]));
        assert_ne!(throws(&[1, 2, 3]), throws(&[2, 1, 3]));
    }
}
