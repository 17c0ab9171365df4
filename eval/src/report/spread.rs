//! What runs of one recipe say together, in words.
//!
//! Before: [`Runs`]. After: the pages of [`super`] and `evenkeel compare`.

use super::words::{about_points, percent};
use crate::result::{Comparison, Runs};

/// What a comparison found, as plain text, and where its protocols differ.
pub fn comparison(comparison: &Comparison) -> String {
    super::words::comparison(comparison)
}

/// What to bear in mind when there are several comparisons.
pub fn by_chance(comparisons: usize) -> Option<String> {
    super::words::by_chance(comparisons)
}

/// The spread between runs of one recipe: how much of it is questions flipping, and how much the runs' quality.
pub fn runs(runs: &Runs) -> String {
    let variance = &runs.variance;
    let deviation = |variance: f64| percent(variance.max(0.0).sqrt());
    let quality = match variance.quality_raw > 0.0 {
        true => format!("{} points of quality", deviation(variance.quality_raw)),
        false => "no difference in quality (its estimate is below 0, which says 0)".to_owned(),
    };
    let interval = &variance.accuracy.interval;
    let least = match variance.floor > variance.total {
        true => {
            format!(", and {} of their draws alone, which is what is believed", deviation(variance.floor))
        }
        false => String::new(),
    };
    format!(
        "{} runs of one recipe on {} ({}): mean {} % [{}, {}] over runs. Their standard deviation is {} points{least}; {} would come of single questions flipping, which leaves {quality}. Two such runs differ by {}.",
        variance.runs,
        runs.benchmark,
        runs.models.join(", "),
        percent(variance.accuracy.value),
        percent(interval.low),
        percent(interval.high),
        deviation(variance.total),
        deviation(variance.item),
        about_points((2.0 * variance.believed()).sqrt())
    )
}
