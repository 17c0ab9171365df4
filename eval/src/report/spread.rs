//! What runs of one recipe say together, in words.
//!
//! Before: [`Runs`]. After: the pages of [`super`] and `evenkeel compare`.

use super::words::{percent, points};
use crate::result::{Comparison, Runs};

/// What a comparison found, as plain text, and where its protocols differ.
pub fn comparison(comparison: &Comparison) -> String {
    super::words::comparison(comparison)
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
    format!(
        "{} runs of one recipe on {} ({}): mean {} % [{}, {}] over runs. Their standard deviation is {} points; {} would come of single questions flipping, which leaves {quality}. Two such runs differ by about {} points.",
        variance.runs,
        runs.benchmark,
        runs.models.join(", "),
        percent(variance.accuracy.value),
        percent(interval.low),
        percent(interval.high),
        deviation(variance.total),
        deviation(variance.item),
        points((2.0 * variance.total).sqrt()).trim_start_matches('+')
    )
}
