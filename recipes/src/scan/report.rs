//! A scan in some numbers.
//!
//! Before: [`Scan`]. After: `evenkeel scan` prints it, and a run that walks by angle says the correlation.

use std::io::Write;

use anyhow::Result;
use engine::selection::AngleMetric;
use engine::stats::rank_correlation;
use serde::Serialize;

use super::{CONTROL, Scan, ScannedPrompt};
use crate::progress::fixed;

/// Quantiles of what was measured, and rank correlations with the length of prompts.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Prompts that were scanned.
    prompts: usize,
    /// Weight of the concentration between question and prefix in the score.
    kappa: f64,
    columns: Vec<Column>,
}

/// Something that was measured of every prompt.
#[derive(Debug, Serialize)]
struct Column {
    name: &'static str,
    /// Prompts that have a number.
    known: usize,
    /// Least, at 10, 50 and 90 %, largest.
    quantiles: Option<[f64; 5]>,
    /// Spearman's correlation with the prompt's length in tokens, where that and this vary.
    correlation_with_length: Option<f64>,
}

impl Column {
    fn of(name: &'static str, scan: &Scan, value: impl Fn(&ScannedPrompt) -> Option<f64>) -> Self {
        let known = scan.prompts.iter().filter_map(|prompt| Some((value(prompt)?, prompt.tokens as f64)));
        let (mut values, lengths): (Vec<f64>, Vec<f64>) = known.unzip();
        let correlation_with_length = rank_correlation(&values, &lengths).filter(|c| c.is_finite());
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
        let quantiles = (!values.is_empty()).then(|| [0.0, 0.1, 0.5, 0.9, 1.0].map(at));
        Self { name, known: values.len(), quantiles, correlation_with_length }
    }
}

impl Report {
    pub(crate) fn of(scan: &Scan, kappa: f64) -> Self {
        let columns = vec![
            Column::of("tokens", scan, |prompt| Some(prompt.tokens as f64)),
            Column::of("intra", scan, |prompt| Some(prompt.intra)),
            Column::of("inter", scan, |prompt| Some(prompt.inter)),
            Column::of("score", scan, |prompt| Some(prompt.intra + kappa * prompt.inter)),
            Column::of("released", scan, |prompt| prompt.released),
        ];
        Self { prompts: scan.prompts.len(), kappa, columns }
    }

    /// The correlation of a metric with length, in words.
    pub(super) fn correlation(&self, metric: AngleMetric) -> String {
        let name = match metric {
            AngleMetric::Clean => "score",
            AngleMetric::Released => "released",
        };
        let column = self.columns.iter().find(|column| column.name == name);
        let found = column.and_then(|column| column.correlation_with_length);
        found.map_or_else(|| "unknown, as one of the two does not vary".into(), |c| fixed(c, 2))
    }

    /// As a table.
    pub(crate) fn print(&self, scan: &Scan, out: &mut dyn Write) -> Result<()> {
        let head = &scan.head;
        writeln!(
            out,
            "{} of {} prompts by `{}`; {} tokens before each question and {} behind it are the same for all\n",
            self.prompts, head.prompts, head.checkpoint, head.prefix, head.suffix
        )?;
        writeln!(
            out,
            "{:<10} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}  rank correlation with length",
            "", "prompts", "least", "10 %", "median", "90 %", "largest"
        )?;
        for column in &self.columns {
            write!(out, "{:<10} {:>7}", column.name, column.known)?;
            let digits = if column.name == "tokens" { 0 } else { 4 };
            for place in 0..5 {
                let shown = column.quantiles.map_or("–".into(), |all| format!("{:.digits$}", all[place]));
                write!(out, " {shown:>9}")?;
            }
            writeln!(out, "  {}", column.correlation_with_length.map_or("–".into(), |c| format!("{c:.3}")))?;
        }
        writeln!(
            out,
            "\nintra: mean cosine of two tokens of the question. inter: of one of the question and one before it. score: intra + {}·inter. \
             released: as the authors' code computes it, which gives prompts shorter than about two prefixes no number. {CONTROL}.",
            self.kappa
        )?;
        Ok(())
    }
}
