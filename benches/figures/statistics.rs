//! Median, 95th percentile and extremes of a handful of samples.

use serde::Serialize;

/// What a set of samples comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    pub count: usize,
    pub min: f64,
    pub median: f64,
    pub p95: f64,
    pub max: f64,
}

impl Summary {
    /// Of at least one sample.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        assert!(!sorted.is_empty(), "nothing was measured");
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let middle = count / 2;
        let median = if count.is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        // Nearest rank: with few samples it is the largest, and says so.
        let rank = (count * 95).div_ceil(100);
        Self { count, min: sorted[0], median, p95: sorted[rank - 1], max: sorted[count - 1] }
    }
}
