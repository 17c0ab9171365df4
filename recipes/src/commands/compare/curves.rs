//! The curve of a run: a metric by step, and by what had been spent until then.
//!
//! Before: `metrics.jsonl`. After: [`super::runs`] reads values off at equal budgets.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::files::json_lines;

/// A quantity that a curve can be drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Axis {
    Step,
    Rollouts,
    Tokens,
    Seconds,
}

impl Axis {
    pub(super) const ALL: [Self; 4] = [Self::Step, Self::Rollouts, Self::Tokens, Self::Seconds];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Step => "steps",
            Self::Rollouts => "rollouts",
            Self::Tokens => "tokens",
            Self::Seconds => "seconds",
        }
    }
}

/// A measured value, and what had been spent when it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Point {
    pub(super) step: u64,
    pub(super) rollouts: f64,
    pub(super) tokens: f64,
    pub(super) seconds: f64,
    pub(super) value: f64,
}

impl Point {
    pub(super) fn at(&self, axis: Axis) -> f64 {
        match axis {
            Axis::Step => self.step as f64,
            Axis::Rollouts => self.rollouts,
            Axis::Tokens => self.tokens,
            Axis::Seconds => self.seconds,
        }
    }
}

/// A metric over a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Curve(pub(super) Vec<Point>);

impl Curve {
    /// The values of a metric, `a.b` for a key within a key, in the lines of a stage.
    pub(super) fn of(lines: &[Value], stage: &str, metric: &str) -> Self {
        let mut spent = Point { step: 0, rollouts: 0.0, tokens: 0.0, seconds: 0.0, value: 0.0 };
        let mut points = Vec::new();
        for line in lines.iter().filter(|line| line["stage"] == stage) {
            let number = |key: &str| line[key].as_f64().unwrap_or(0.0);
            spent.step = line["step"].as_u64().unwrap_or(spent.step);
            spent.rollouts += number("rollouts");
            spent.tokens += number("rollouts") * number("completion_tokens_mean");
            spent.seconds +=
                ["seconds_sample", "seconds_score", "seconds_update"].map(number).iter().sum::<f64>();
            if let Some(value) = metric.split('.').fold(line, |value, key| &value[key]).as_f64() {
                points.push(Point { value, ..spent });
            }
        }
        Self(points)
    }

    /// The last value measured with no more than that spent, the value at 0 included.
    pub(super) fn value_at(&self, axis: Axis, budget: f64) -> Option<f64> {
        self.0.iter().rfind(|point| point.at(axis) <= budget * (1.0 + 1e-12)).map(|point| point.value)
    }

    /// All that was spent until the last value.
    pub(super) fn end(&self, axis: Axis) -> Option<f64> {
        self.0.last().map(|point| point.at(axis))
    }
}

/// The lines of a `metrics.jsonl`; a last one that a kill cut short is left out.
pub(super) fn read(file: &std::path::Path) -> Result<Vec<Value>> {
    anyhow::ensure!(file.is_file(), "could not read `{}`: there is no such file", file.display());
    let found = json_lines::<Value>(file)?;
    if let Some(number) = found.broken.first() {
        anyhow::bail!("`{}` line {number} is no JSON", file.display());
    }
    Ok(found.values().collect())
}

/// Runs of one recipe, which differ in nothing but the seed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Replicas {
    pub(super) name: String,
    pub(super) runs: Vec<PathBuf>,
    pub(super) curves: Vec<Curve>,
    #[serde(skip)]
    pub(super) recipe: toml::Table,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_read_off_at_equal_budgets_and_never_from_the_future() {
        let line = |step: u64, accuracy: Option<f64>| {
            json!({ "stage": "rl", "step": step, "rollouts": 10, "completion_tokens_mean": 5.0,
                "seconds_sample": 1.0, "seconds_update": 2.0, "eval": { "share": accuracy } })
        };
        let start = json!({ "stage": "rl", "step": 0, "eval": { "share": 0.1 } });
        let other = json!({ "stage": "sft", "step": 9, "eval": { "share": 0.9 } });
        let lines = [other, start, line(1, None), line(2, Some(0.3)), line(3, None), line(4, Some(0.5))];
        let curve = Curve::of(&lines, "rl", "eval.share");
        assert_eq!(curve.0.len(), 3);
        assert_eq!(curve.value_at(Axis::Step, 1.0), Some(0.1));
        assert_eq!(curve.value_at(Axis::Rollouts, 20.0), Some(0.3));
        assert_eq!(curve.value_at(Axis::Tokens, 199.0), Some(0.3));
        assert_eq!(curve.value_at(Axis::Seconds, 12.0), Some(0.5));
        assert_eq!(curve.end(Axis::Tokens), Some(200.0));
        assert_eq!(Curve::of(&lines, "rl", "none").value_at(Axis::Step, 9.0), None);
    }
}
