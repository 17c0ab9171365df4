//! A scan against what a run has learnt of the same prompts: pass rates and gradient norms.
//!
//! Before: a [`Scan`], and the statistics of prompts in a run's newest checkpoint. After: rank correlations, plain and given length.

use std::path::Path;

use anyhow::{Context, Result};
use engine::selection::{PromptRecord, PromptStats};
use engine::stats::rank_correlation;
use serde::Serialize;

use super::{Scan, ScannedPrompt};
use crate::save::{self, CheckpointState, STATE};
use crate::usage::Usage;

/// How a metric ranks prompts, against how something that was measured of them does.
#[derive(Debug, Serialize)]
pub(crate) struct Against {
    metric: &'static str,
    with: &'static str,
    /// Prompts that have both numbers.
    prompts: usize,
    /// Spearman's correlation, where both vary.
    correlation: Option<f64>,
    /// The same with what length explains of each taken away.
    given_length: Option<f64>,
}

/// The statistics of prompts in the newest checkpoint of a run.
///
/// # Errors
/// If there is none, or it cannot be read.
pub(crate) fn stats_of(run: &Path) -> Result<PromptStats> {
    let place = save::latest(run)?.ok_or_else(|| {
        Usage::error(format!(
            "`{}` has no checkpoint; wanted the folder of a run of the same prompts",
            run.display()
        ))
    })?;
    let place = place.join(STATE);
    let cannot = || format!("could not read `{}`", place.display());
    let state: CheckpointState =
        serde_json::from_slice(&std::fs::read(&place).with_context(cannot)?).with_context(cannot)?;
    Ok(state.stage.known.stats)
}

/// Correlation of x and y given z, from the three of pairs; `None` where z says all of one of them.
fn partial(xy: f64, xz: f64, yz: f64) -> Option<f64> {
    let value = (xy - xz * yz) / ((1.0 - xz * xz) * (1.0 - yz * yz)).sqrt();
    value.is_finite().then(|| value.clamp(-1.0, 1.0))
}

fn pass_rate(record: &PromptRecord) -> Option<f64> {
    (record.known > 0).then(|| record.sum / record.known as f64)
}

fn gradient_norm(record: &PromptRecord) -> Option<f64> {
    let norms = record.norms?;
    let (sum, count) = (norms.right.0 + norms.wrong.0, norms.right.1 + norms.wrong.1);
    (count > 1e-9).then(|| (sum / count).sqrt())
}

/// The scores of a scan against pass rates and, where a run has measured them, gradient norms.
///
/// # Errors
/// If the run has seen none of the prompts.
pub(crate) fn against(scan: &Scan, kappa: f64, stats: &PromptStats) -> Result<Vec<Against>> {
    let seen = scan.prompts.iter().filter(|prompt| stats.get(&prompt.id).is_some()).count();
    if seen == 0 {
        return Err(Usage::error(
            "the run has seen none of the scanned prompts; wanted a run of the same dataset",
        ));
    }
    type Metric<'a> = (&'static str, &'a dyn Fn(&ScannedPrompt) -> Option<f64>);
    let metrics: [Metric<'_>; 2] = [
        ("score", &|prompt| Some(prompt.intra + kappa * prompt.inter)),
        ("released", &|prompt| prompt.released),
    ];
    type Measured = (&'static str, fn(&PromptRecord) -> Option<f64>);
    let measured: [Measured; 2] = [("pass rate", pass_rate), ("gradient norm", gradient_norm)];
    let mut found = Vec::new();
    for (with, measure) in measured {
        for (metric, score) in metrics {
            let rows = scan.prompts.iter().filter_map(|prompt| {
                Some([score(prompt)?, measure(stats.get(&prompt.id)?)?, prompt.tokens as f64])
            });
            let rows: Vec<[f64; 3]> = rows.collect();
            let column = |place: usize| rows.iter().map(|row| row[place]).collect::<Vec<f64>>();
            let pair = |a: usize, b: usize| rank_correlation(&column(a), &column(b));
            let correlation = pair(0, 1);
            let given_length = correlation.and_then(|xy| partial(xy, pair(0, 2)?, pair(1, 2)?));
            found.push(Against { metric, with, prompts: rows.len(), correlation, given_length });
        }
    }
    Ok(found)
}

impl Against {
    /// A line of a table.
    pub(crate) fn line(&self) -> String {
        let shown = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.3}"));
        format!(
            "{:<10} {:<14} {:>7} {:>12} {:>13}",
            self.metric,
            self.with,
            self.prompts,
            shown(self.correlation),
            shown(self.given_length)
        )
    }

    /// The head of the table.
    pub(crate) fn head() -> String {
        format!("{:<10} {:<14} {:>7} {:>12} {:>13}", "", "against", "prompts", "correlation", "given length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::file::ScanHead;
    use engine::batch::GroupNorms;
    use engine::selection::GroupOutcome;

    #[test]
    fn what_length_explains_is_taken_away() {
        assert!((partial(0.5, 0.0, 0.0).expect("known") - 0.5).abs() < 1e-12);
        // both follow length and nothing else
        assert!(partial(0.48, 0.6, 0.8).expect("known").abs() < 1e-12);
        // 0.2 of what 0.8 · 0.6 leaves of each
        assert!((partial(0.68, 0.8, 0.6).expect("known") - 0.2 / 0.48).abs() < 1e-9);
        assert_eq!(partial(0.3, 1.0, 0.3), None, "length itself");
    }

    #[test]
    fn scores_are_set_against_what_a_run_has_measured() {
        let prompt = |place: usize| ScannedPrompt {
            id: place.to_string(),
            tokens: [9, 4, 7, 5, 8, 6][place],
            question: 3,
            intra: place as f64,
            inter: 0.0,
            score: 0.0,
            released: (place > 1).then_some(-(place as f64)),
        };
        let head = ScanHead {
            key: String::new(),
            data: String::new(),
            checkpoint: String::new(),
            prompts: 6,
            prefix: 0,
            suffix: 0,
            kappa: 1.0,
        };
        let scan = Scan { head, prompts: (0..6).map(prompt).collect() };
        let mut stats = PromptStats::default();
        assert!(against(&scan, 1.0, &stats).is_err(), "another run");
        for place in 0..5 {
            let rewards: Vec<f32> = (0..8).map(|i| if i < place { 1.0 } else { 0.0 }).collect();
            stats.observe_norms(&place.to_string(), GroupNorms::of(&rewards, &[(9 - place) as f64; 8]));
            stats.observe(
                0,
                &GroupOutcome { prompt: place.to_string(), rewards, ..GroupOutcome::default() },
                1.0,
            );
        }
        let found = against(&scan, 1.0, &stats).expect("found");
        let of = |metric, with| found.iter().find(|a| a.metric == metric && a.with == with).expect("a row");
        assert_eq!((of("score", "pass rate").prompts, of("score", "pass rate").correlation), (5, Some(1.0)));
        assert_eq!(of("score", "gradient norm").correlation, Some(-1.0));
        assert_eq!(
            (of("released", "pass rate").prompts, of("released", "pass rate").correlation),
            (3, Some(-1.0))
        );
    }
}
