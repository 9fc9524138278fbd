//! Chance that comes again.

/// A sequence of numbers, the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    /// Less than `most`.
    pub fn below(&mut self, most: usize) -> usize {
        // SplitMix64, G. Steele, D. Lea and C. Flood.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % most as u64) as usize
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}
