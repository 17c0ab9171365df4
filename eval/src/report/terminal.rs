//! The figures in a few lines for the terminal.
//!
//! Before: [`Report`]. After: people look, and open the page for the rest.

use std::fmt::Write as _;

use super::{Report, words};
use crate::result::Evaluation;

/// One line a model and benchmark, then what the comparisons say.
pub fn terminal(report: &Report<'_>) -> String {
    let head =
        ["model", "benchmark", "accuracy", "95 % interval", "questions", "samples", "form", "cut", "tokens"];
    let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
    rows.extend(report.evaluations.iter().map(row));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let blanks = " ".repeat(width - cell.chars().count());
            if column < 2 { format!("{cell}{blanks}") } else { format!("{blanks}{cell}") }
        });
        // writing to a string does not fail
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    for evaluation in report.evaluations {
        for line in more(evaluation) {
            let _ = writeln!(text, "{} on {}: {line}", evaluation.model.name, evaluation.protocol.benchmark);
        }
    }
    for comparison in report.comparisons {
        let _ = writeln!(text, "{}", words::comparison(comparison));
    }
    if let Some(note) = words::by_chance(report.comparisons.len()) {
        let _ = writeln!(text, "{note}");
    }
    for runs in report.runs {
        let _ = writeln!(text, "{}", super::runs(runs));
    }
    text
}

fn row(evaluation: &Evaluation) -> Vec<String> {
    let summary = &evaluation.summary;
    let rate =
        |rate: &Option<crate::stats::Estimate>| rate.map_or("–".into(), |rate| words::percent(rate.value));
    vec![
        evaluation.model.name.clone(),
        evaluation.protocol.benchmark.clone(),
        rate(&summary.accuracy),
        summary.accuracy.map_or("–".into(), |accuracy| words::interval(&accuracy.interval)),
        words::number(summary.questions),
        words::number(summary.samples),
        rate(&summary.format_rate),
        rate(&summary.truncation_rate),
        summary.tokens.as_ref().map_or("–".into(), |tokens| words::mean(tokens.mean)),
    ]
}

/// What the row has no room for.
fn more(evaluation: &Evaluation) -> Vec<String> {
    let summary = &evaluation.summary;
    let mut lines = Vec::new();
    if summary.pass_at.len() > 1 {
        for (name, figures) in [("pass@", &summary.pass_at), ("maj@", &summary.majority_at)] {
            let figure =
                |at: &crate::summary::AtK| format!("{name}{} {}", at.k, words::estimate(Some(&at.estimate)));
            lines.extend(figures.last().map(figure));
        }
    }
    if let Some(draws) = &summary.over_draws {
        lines.push(format!("over draws of these questions {}", words::estimate(Some(draws))));
    }
    lines.extend(words::draws_part(evaluation));
    lines.extend(words::flaws(evaluation));
    lines
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::evaluation;
    use super::*;
    use crate::result::Comparison;

    #[test]
    fn the_note_on_many_comparisons_is_on_the_terminal_too() {
        let evaluations = [evaluation("a", "x", 6, 1), evaluation("b", "x", 6, 1)];
        let comparison = Comparison::of(&evaluations[0], &evaluations[1]).unwrap();
        let comparisons = vec![comparison; 6];
        let report = Report {
            title: "",
            evaluations: &evaluations,
            comparisons: &comparisons,
            runs: &[],
            readings: &[],
        };
        let text = terminal(&report);
        assert!(text.contains("Of 6 comparisons between models that are equal, 0.3 would"), "{text}");
        let one = terminal(&Report { comparisons: &comparisons[..1], ..report });
        assert!(!one.contains("would show a difference on average"), "{one}");
    }
}
