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
    /// Samples that the value is a share of, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) draws: Option<usize>,
}

/// Metrics that are shares of the judged samples of an evaluation.
const SHARES: [&str; 2] = ["eval_accuracy", "eval.share"];

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
        let mut spent = Point { step: 0, rollouts: 0.0, tokens: 0.0, seconds: 0.0, value: 0.0, draws: None };
        let mut points = Vec::new();
        for line in lines.iter().filter(|line| line["stage"] == stage) {
            let number = |key: &str| line[key].as_f64().unwrap_or(0.0);
            spent.step = line["step"].as_u64().unwrap_or(spent.step);
            spent.rollouts += number("rollouts");
            spent.tokens += number("rollouts") * number("completion_tokens_mean");
            spent.seconds += SECONDS.map(number).iter().sum::<f64>();
            if let Some(value) = metric.split('.').fold(line, |value, key| &value[key]).as_f64() {
                let judged = line["eval"]["judged"].as_u64().map(|judged| judged as usize);
                let draws = judged.filter(|judged| *judged > 0 && SHARES.contains(&metric));
                points.push(Point { value, draws, ..spent });
            }
        }
        Self(points)
    }

    /// The value when so much had been spent: between two measurements in a straight line from one to the other, as a budget
    /// of tokens or seconds hardly ever ends where a run was measured. Absent before the first and after the last.
    pub(super) fn value_at(&self, axis: Axis, budget: f64) -> Option<f64> {
        let near = |point: &&Point| (point.at(axis) - budget).abs() <= 1e-12 * budget;
        // of several measurements with the same spent the last counts
        if let Some(point) = self.0.iter().rev().find(near) {
            return Some(point.value);
        }
        let after = self.0.iter().position(|point| point.at(axis) > budget)?;
        let (before, after) = (self.0.get(after.checked_sub(1)?)?, &self.0[after]);
        let part = (budget - before.at(axis)) / (after.at(axis) - before.at(axis));
        Some(before.value + part * (after.value - before.value))
    }

    /// Whether both were measured at the same steps with the same results; how long they took is no result.
    pub(super) fn same_values(&self, other: &Self) -> bool {
        let timeless = |point: &Point| Point { seconds: 0.0, ..*point };
        self.0.iter().map(timeless).eq(other.0.iter().map(timeless))
    }

    /// All that was spent until the last value.
    pub(super) fn end(&self, axis: Axis) -> Option<f64> {
        self.0.last().map(|point| point.at(axis))
    }
}

/// How evenly a run's machine worked: the seconds a token of its slowest tenth of steps, as a multiple of the median.
///
/// Absent of fewer than ten steps with tokens. Completions that grow longer change it little; other work on the machine does.
pub(super) fn unevenness(lines: &[Value], stage: &str) -> Option<f64> {
    let step = |line: &&Value| line["stage"] == stage;
    let mut costs: Vec<f64> = lines
        .iter()
        .filter(step)
        .filter_map(|line| {
            let tokens = line["rollouts"].as_f64()? * line["completion_tokens_mean"].as_f64()?;
            let seconds = SECONDS.map(|key| line[key].as_f64().unwrap_or(0.0)).iter().sum::<f64>();
            (tokens > 0.0 && seconds > 0.0).then(|| seconds / tokens)
        })
        .collect();
    costs.sort_by(f64::total_cmp);
    (costs.len() >= 10).then(|| costs[costs.len() * 9 / 10] / costs[costs.len() / 2])
}

/// Parts of a step's time.
const SECONDS: [&str; 3] = ["seconds_sample", "seconds_score", "seconds_update"];

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
    fn values_are_read_off_at_equal_budgets_between_two_measurements_too() {
        let line = |step: u64, accuracy: Option<f64>| {
            json!({ "stage": "rl", "step": step, "rollouts": 10, "completion_tokens_mean": 5.0,
                "seconds_sample": 1.0, "seconds_update": 2.0, "eval": { "share": accuracy } })
        };
        let start = json!({ "stage": "rl", "step": 0, "eval": { "share": 0.1 } });
        let other = json!({ "stage": "sft", "step": 9, "eval": { "share": 0.9 } });
        let lines = [other, start, line(1, None), line(2, Some(0.3)), line(3, None), line(4, Some(0.5))];
        let curve = Curve::of(&lines, "rl", "eval.share");
        assert_eq!(curve.0.len(), 3);
        let near = |found: Option<f64>, wanted: f64| (found.expect("measured") - wanted).abs() < 1e-12;
        assert!(near(curve.value_at(Axis::Step, 1.0), 0.2));
        assert_eq!(curve.value_at(Axis::Rollouts, 20.0), Some(0.3));
        // one token less than the last measurement is no whole interval less
        assert!(near(curve.value_at(Axis::Tokens, 199.0), 0.498));
        assert_eq!(curve.value_at(Axis::Seconds, 12.0), Some(0.5));
        assert_eq!(curve.value_at(Axis::Seconds, 12.1), None, "nothing is known beyond the end");
        assert_eq!(curve.end(Axis::Tokens), Some(200.0));
        assert_eq!(Curve::of(&lines, "rl", "none").value_at(Axis::Step, 9.0), None);
    }

    #[test]
    fn a_run_beside_other_work_is_told_by_its_slowest_steps() {
        let line = |step: u64, seconds: f64| json!({ "stage": "rl", "step": step, "rollouts": 10, "completion_tokens_mean": 5.0, "seconds_update": seconds });
        let alone: Vec<Value> = (1..=20).map(|step| line(step, 2.0)).collect();
        assert_eq!(unevenness(&alone, "rl"), Some(1.0));
        let busy: Vec<Value> = (1..=20).map(|step| line(step, if step < 5 { 6.0 } else { 2.0 })).collect();
        assert_eq!(unevenness(&busy, "rl"), Some(3.0));
        assert_eq!((unevenness(&busy[..9], "rl"), unevenness(&busy, "sft")), (None, None));
    }
}
