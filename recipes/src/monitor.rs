//! Whether the policy learns the task, or how to please the reward, or nothing.
//!
//! Before: the metrics of each step. After: warnings, on the terminal and in `warnings.jsonl`. Everything is read from lines
//! of `metrics.jsonl`, so that a run that goes on knows what the run before it saw.
//!
//! A trend compares the mean of the last [`WINDOW`] steps with that of the first, in units of the standard error of their
//! difference; more than [`ERRORS`] of those is a trend. With two looks at the same numbers some trends are chance:
//! a warning is a reason to read rollouts, not a verdict.

use rewards::{OnNone, PartSettings};
use serde_json::Value;

use crate::progress::fixed;
use crate::standstill::{Facts, suspicions};

/// Steps that are compared.
const WINDOW: usize = 10;
/// Standard errors that make a trend.
const ERRORS: f64 = 4.0;
/// Steps until the same warning may come again.
const AGAIN: u64 = 50;
/// A larger share of rollouts without a reward, or without an answer, is worth a word.
const MANY: f64 = 0.2;

/// The metrics of a stage so far, and the warnings they gave rise to.
#[derive(Debug)]
pub(crate) struct Monitor {
    facts: Facts,
    parts: Vec<(String, PartSettings)>,
    lines: Vec<Value>,
    warned: Vec<(String, u64)>,
}

impl Monitor {
    /// A monitor that has looked at these lines of metrics, of rewards with these parts.
    pub(crate) fn after(
        facts: Facts,
        parts: Vec<(String, PartSettings)>,
        lines: impl IntoIterator<Item = Value>,
    ) -> Self {
        let mut monitor = Self { facts, parts, lines: Vec::new(), warned: Vec::new() };
        for line in lines {
            monitor.observe(&line);
        }
        monitor
    }

    /// Looks at a step; says what is suspicious since this step.
    pub(crate) fn observe(&mut self, line: &Value) -> Vec<String> {
        self.lines.push(line.clone());
        let step = line["step"].as_u64().unwrap_or(0);
        if step == 0 {
            return vec![];
        }
        let mut found = suspicions(&self.facts, &self.lines);
        let trend = self.trend("reward_mean");
        if let Some(Trend { first, last, errors }) = trend
            && errors < -ERRORS
        {
            let (first, last) = (fixed(first, 3), fixed(last, 3));
            let text =
                format!("the reward falls, from {first} to {last}: the learning rate may be too large");
            found.push(("falls".to_owned(), text));
        }
        if trend.is_some_and(|trend| trend.errors > ERRORS) {
            found.extend(self.held_out());
            found.extend(self.parts_that_fall());
            found.extend(self.length());
        }
        found.extend(self.unjudged(line));
        found.retain(|(what, _)| {
            let recent = self.warned.iter().any(|(other, at)| other == what && step < at + AGAIN);
            if !recent {
                self.warned.retain(|(other, _)| other != what);
                self.warned.push((what.clone(), step));
            }
            !recent
        });
        found.into_iter().map(|(_, text)| text).collect()
    }

    fn values(&self, key: &str) -> Vec<f64> {
        // a step without any reward says nothing
        let known = |line: &&Value| {
            line["rollouts"].as_u64().is_none_or(|n| line["absent_rewards"].as_u64() != Some(n))
        };
        let steps = self.lines.iter().filter(|line| line["step"].as_u64() > Some(0)).filter(known);
        steps.filter_map(|line| line[key].as_f64()).collect()
    }

    fn trend(&self, key: &str) -> Option<Trend> {
        let values = self.values(key);
        if values.len() < 2 * WINDOW {
            return None;
        }
        let moments = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
            (mean, variance / values.len() as f64)
        };
        let (first, of_first) = moments(&values[..WINDOW]);
        let (last, of_last) = moments(&values[values.len() - WINDOW..]);
        let error = (of_first + of_last).sqrt();
        let errors = if error > 0.0 { (last - first) / error } else { (last - first) * f64::INFINITY };
        Some(Trend { first, last, errors: if errors.is_nan() { 0.0 } else { errors } })
    }

    /// The reward rises and the held-out accuracy is clearly below its best.
    fn held_out(&self) -> Option<(String, String)> {
        let measured = self.lines.iter().filter_map(|line| {
            let accuracy = line["eval_accuracy"].as_f64()?;
            let judged = line["eval"]["judged"].as_f64().or_else(|| self.judged())?;
            Some((line["step"].as_u64()?, accuracy, judged))
        });
        let measured: Vec<(u64, f64, f64)> = measured.collect();
        let (step, now, judged) = *measured.last()?;
        let best = measured.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let variance = |share: f64, n: f64| (share * (1.0 - share)).max(0.25 / n) / n;
        let error = (variance(now, judged) + variance(best.1, best.2)).sqrt();
        (best.1 - now > 2.0 * error && best.0 < step).then(|| {
            let text = format!(
                "the reward rises, but held-out accuracy fell from {:.1} % (step {}) to {:.1} %: read rollouts before believing the reward",
                100.0 * best.1,
                best.0,
                100.0 * now
            );
            ("held-out".to_owned(), text)
        })
    }

    /// Prompts of an evaluation, from any line that says it.
    fn judged(&self) -> Option<f64> {
        self.lines.iter().find_map(|line| line["eval"]["judged"].as_f64())
    }

    /// Parts that are worth less while the sum is worth more: a reward that falls, a penalty that rises.
    fn parts_that_fall(&self) -> Vec<(String, String)> {
        let falls = self.parts.iter().filter_map(|(name, part)| {
            // a gate of weight 0 is wanted as well
            let sign = match part.weight {
                weight if weight > 0.0 || weight == 0.0 && part.gate.is_some() => 1.0,
                weight if weight < 0.0 => -1.0,
                _ => return None,
            };
            let trend = self.trend(&format!("reward_{name}_mean"))?;
            (sign * trend.errors < -ERRORS).then(|| {
                let (way, first, last) =
                    (if sign > 0.0 { "falls" } else { "rises" }, trend.first, trend.last);
                let what = if sign > 0.0 { "part" } else { "penalty" };
                let text =
                    format!("the reward rises while its {what} `{name}` {way}, from {first:.3} to {last:.3}");
                (format!("part {name}"), text)
            })
        });
        falls.collect()
    }

    fn length(&self) -> Option<(String, String)> {
        let trend = self.trend("completion_tokens_mean")?;
        let ratio = trend.last / trend.first.max(1e-9);
        (trend.errors.abs() > ERRORS && !(0.5..=2.0).contains(&ratio)).then(|| {
            let text = format!(
                "completions went from {:.0} to {:.0} tokens while the reward rose: look whether length is what is rewarded",
                trend.first, trend.last
            );
            ("length".to_owned(), text)
        })
    }

    fn unjudged(&self, line: &Value) -> Vec<(String, String)> {
        let Some(rollouts) = line["rollouts"].as_f64().filter(|n| *n > 0.0) else { return vec![] };
        let Value::Object(map) = line else { return vec![] };
        let mut found = Vec::new();
        for (key, value) in map {
            let Some(name) = key.strip_prefix("reward_") else { continue };
            let kinds = [
                ("_failed", "failed for"),
                ("_none", "had nothing to say of"),
                ("_no_answer", "found no answer in"),
            ];
            for (end, words) in kinds {
                let Some(name) = name.strip_suffix(end) else { continue };
                let usual =
                    |(other, part): &(String, PartSettings)| other == name && part.none != OnNone::Drop;
                if end == "_none" && self.parts.iter().any(usual) {
                    continue;
                }
                let share = value.as_f64().unwrap_or(0.0) / rollouts;
                if share > MANY {
                    let text = format!(
                        "`{name}` {words} {:.0} % of the rollouts: examples are in unjudged.jsonl",
                        100.0 * share
                    );
                    found.push((key.clone(), text));
                }
            }
        }
        found
    }
}

#[derive(Clone, Copy)]
struct Trend {
    first: f64,
    last: f64,
    errors: f64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::position::StageName;

    fn facts() -> Facts {
        Facts { stage: StageName::Rl, steps: 1000, vocabulary: 100, known_tokens: 100, within_groups: true }
    }

    /// 30 steps whose reward rises, with this beside.
    fn run(more: impl Fn(u64) -> Value) -> Vec<String> {
        let parts = vec![("format".to_owned(), PartSettings::weight(1.0))];
        let mut monitor = Monitor::after(facts(), parts, []);
        let mut all = Vec::new();
        for step in 1..=30_u64 {
            let noise = if step.is_multiple_of(2) { 0.01 } else { -0.01 };
            let mut line = json!({ "step": step, "rollouts": 64, "reward_mean": 0.02 * step as f64 + noise });
            line.as_object_mut().unwrap().extend(more(step).as_object().unwrap().clone());
            all.extend(monitor.observe(&line));
        }
        all
    }

    #[test]
    fn a_healthy_run_is_not_disturbed() {
        let noise = |step: u64| if step.is_multiple_of(2) { 0.01 } else { -0.01 };
        let quiet = run(|step| {
            json!({ "reward_math_mean": 0.02 * step as f64 + noise(step), "completion_tokens_mean": 100.0 + noise(step),
                "eval_accuracy": 0.02 * step as f64, "eval": { "judged": 500 } })
        });
        assert_eq!(quiet, Vec::<String>::new());
    }

    #[test]
    fn a_reward_that_rises_while_the_task_is_lost_is_named_once() {
        let lost =
            run(|step| json!({ "eval_accuracy": 0.9 - 0.02 * step as f64, "eval": { "judged": 500 } }));
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert!(lost[0].contains("held-out accuracy fell from 88.0 %"));
        let noise = |step: u64| if step.is_multiple_of(2) { 0.01 } else { -0.01 };
        let part = run(|step| json!({ "reward_format_mean": 1.0 - 0.02 * step as f64 + noise(step) }));
        assert!(part.len() == 1 && part[0].contains("`format` falls"), "{part:?}");
        let long = run(|step| json!({ "completion_tokens_mean": 50.0 + 20.0 * step as f64 }));
        assert!(long.len() == 1 && long[0].contains("tokens while the reward rose"), "{long:?}");
    }

    #[test]
    fn a_penalty_may_fall_and_a_silent_part_be_silent() {
        let parts = vec![
            ("pen".to_owned(), PartSettings::weight(-1.0)),
            ("other".to_owned(), PartSettings { none: OnNone::Skip, ..PartSettings::weight(1.0) }),
        ];
        let said = |way: f64| {
            let mut monitor = Monitor::after(facts(), parts.clone(), []);
            let mut all = Vec::new();
            for step in 1..=30_u64 {
                let at = step as f64 + if step.is_multiple_of(2) { 0.3 } else { -0.3 };
                all.extend(monitor.observe(&json!({
                    "step": step, "rollouts": 64, "reward_mean": 0.02 * at, "reward_pen_mean": 0.5 + way * 0.01 * at,
                    "reward_other_none": 32,
                })));
            }
            all
        };
        assert_eq!(said(-1.0), Vec::<String>::new());
        let rises = said(1.0);
        assert!(rises.len() == 1 && rises[0].contains("penalty `pen` rises"), "{rises:?}");
    }

    #[test]
    fn many_rollouts_without_a_verdict_are_named() {
        let failed = run(|_| json!({ "reward_mine_failed": 32, "reward_other_none": 3 }));
        assert_eq!(failed.len(), 1);
        assert!(failed[0].contains("`mine` failed for 50 % of the rollouts"));
    }

    #[test]
    fn a_reward_that_falls_is_named() {
        let mut monitor = Monitor::after(facts(), vec![], []);
        let line = |step: u64| {
            let noise = if step.is_multiple_of(2) { 0.01 } else { -0.01 };
            json!({ "step": step, "rollouts": 64, "reward_mean": 0.8 - 0.02 * step as f64 + noise })
        };
        let said: Vec<String> = (1..=40).flat_map(|step| monitor.observe(&line(step))).collect();
        assert!(said.len() == 1 && said[0].starts_with("the reward falls, from 0.6"), "{said:?}");
        // whoever goes on after step 30 says the same
        let mut other = Monitor::after(facts(), vec![], (1..=30).map(line));
        assert!((31..=40).all(|step| other.observe(&line(step)).is_empty()));
    }

    #[test]
    fn a_run_that_goes_on_knows_what_was_said() {
        let line = |step: u64| json!({ "step": step, "rollouts": 10, "reward_mine_failed": 5 });
        let mut monitor = Monitor::after(facts(), vec![], (1..=3).map(line));
        assert!(monitor.observe(&line(4)).is_empty());
        assert_eq!(monitor.observe(&line(60)).len(), 1);
    }
}
