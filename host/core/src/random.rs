//! Pseudo-random numbers that are the same for the same seed: SplitMix64. Not for secrets.

/// A sequence of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Creates the sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn next_number(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(STEP);
        number
    }

    /// Returns the next number, reduced to `0..limit`; a `limit` of 0 counts as 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_number() % limit.max(1)
    }
}

/// Spreads neighbouring seeds over all 64 bits: the first number of the seed's sequence.
#[must_use]
pub const fn mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(STEP);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_reference_implementation() {
        let mut numbers = SplitMix64::new(0);
        let first = [(); 3].map(|()| numbers.next_number());
        let expected = [
            0xe220_a839_7b1d_cdaf,
            0x6e78_9e6a_a1b9_65f4,
            0x06c4_5d18_8009_454f,
        ];
        assert_eq!(first, expected);
        assert_eq!(mix(0), expected[0]);
    }

    #[test]
    fn a_reduced_number_is_below_its_limit() {
        let mut numbers = SplitMix64::new(7);
        assert!((0..100).all(|_| numbers.below(3) < 3));
        assert_eq!([numbers.below(1), numbers.below(0)], [0, 0]);
    }
}
