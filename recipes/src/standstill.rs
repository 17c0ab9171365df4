//! Whether a stage learns anything at all.
//!
//! Before: the lines of `metrics.jsonl` of a stage so far. After: what is wrong with the last of them, in words, for
//! [`crate::monitor`]. What a single step may show by chance has to last [`LASTS`] steps, or for all of a stage that is shorter.

use serde_json::Value;

use crate::plan::Plan;
use crate::position::StageName;
use crate::progress::fixed;

/// Steps that something has to last.
const LASTS: usize = 5;
/// Steps after which a loss should have fallen, or a margin risen.
const PATIENCE: usize = 50;
/// Steps whose means are compared then.
const WINDOW: usize = 10;
/// A larger share of completions that are cut off is all of them.
const ALL_CUT: f64 = 0.95;
/// A larger share of the largest possible entropy is that of tokens drawn at random.
const RANDOM: f64 = 0.9;
/// Nats by which a loss is beyond that of guessing among all tokens.
const BEYOND_GUESSING: f64 = 1.0;
/// A larger share of completions with tokens that the tokenizer does not know is worth a word.
const UNKNOWN: f64 = 0.05;

/// Facts about a stage beside its metrics.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) stage: StageName,
    /// Steps that it has.
    pub(crate) steps: u64,
    /// Tokens that the policy can draw.
    pub(crate) vocabulary: usize,
    /// Tokens that the tokenizer knows.
    pub(crate) known_tokens: usize,
    /// True if rewards are only compared within a group, so that equal ones teach nothing.
    pub(crate) within_groups: bool,
}

impl Facts {
    /// A stage of a plan.
    pub(crate) fn of(plan: &Plan, stage: StageName, steps: u64) -> Self {
        Self {
            stage,
            steps,
            vocabulary: plan.config.vocab_size,
            known_tokens: plan.tokenizer.vocab_size(),
            within_groups: false,
        }
    }
}

/// Suspicions that the last line raises: a name that stays the same, and a sentence.
pub(crate) fn suspicions(facts: &Facts, lines: &[Value]) -> Vec<(String, String)> {
    let steps = Steps { facts, lines: lines.iter().filter(|line| line["step"].as_u64() > Some(0)).collect() };
    let found = match facts.stage {
        StageName::Rl => vec![
            steps.without_rewards(),
            steps.without_differences(),
            steps.cut_off(),
            steps.random_tokens(),
            steps.unknown_tokens(),
            steps.no_number(),
        ],
        StageName::Sft => vec![steps.worse_than_guessing(), steps.loss_stands_still(), steps.no_number()],
        StageName::Preference => vec![steps.margin_stands_still(), steps.no_number()],
    };
    found.into_iter().flatten().map(|(what, text)| (what.to_owned(), text)).collect()
}

type Suspicion = Option<(&'static str, String)>;

struct Steps<'a> {
    facts: &'a Facts,
    lines: Vec<&'a Value>,
}

impl Steps<'_> {
    fn last(&self) -> Option<&Value> {
        self.lines.last().copied()
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.last()?[key].as_f64()
    }

    /// For how many steps up to the last something has been so, if that is long, or all of the stage.
    fn lasted(&self, so: impl Fn(&Value) -> bool) -> Option<usize> {
        let count = self.lines.iter().rev().take_while(|line| so(line)).count();
        let whole = count > 0
            && count == self.lines.len()
            && self.last().and_then(|line| line["step"].as_u64()) == Some(self.facts.steps);
        (count >= LASTS || whole).then_some(count)
    }

    fn without_rewards(&self) -> Suspicion {
        let rollouts = self.number("rollouts").filter(|rollouts| *rollouts > 0.0)?;
        (self.number("absent_rewards")? == rollouts).then(|| {
            let text = format!(
                "none of the {rollouts} rollouts of this step has a reward, so nothing was learned: unjudged.jsonl shows what the reward functions were given"
            );
            ("no rewards", text)
        })
    }

    fn without_differences(&self) -> Suspicion {
        if !self.facts.within_groups {
            return None;
        }
        let equal = |line: &Value| match (line["groups"].as_u64(), line["zero_variance_groups"].as_u64()) {
            // dynamic sampling left all of them out
            (Some(0), _) => line["dropped_groups"].as_u64() > Some(0),
            (Some(groups), Some(equal)) => groups == equal,
            _ => false,
        };
        let steps = self.lasted(equal)?;
        let all = match (self.number("reward_mean"), self.number("reward_std")) {
            (Some(mean), Some(0.0)) => format!(", all {}", fixed(mean, 3)),
            _ => String::new(),
        };
        let text = format!(
            "in {} the rewards of every group were equal{all}, so nothing was learned: the task may be too hard or too easy for this policy, or the reward does not tell its completions apart",
            last_steps(steps)
        );
        Some(("equal rewards", text))
    }

    fn cut_off(&self) -> Suspicion {
        let steps = self.lasted(|line| line["truncation_rate"].as_f64() >= Some(ALL_CUT))?;
        let text = format!(
            "in {} nearly all completions were cut off at max_tokens ({:.0} %): raise rl.sampling.max_tokens, or see in rollouts/ whether the policy ever ends an answer",
            last_steps(steps),
            100.0 * self.number("truncation_rate")?
        );
        Some(("cut off", text))
    }

    fn random_tokens(&self) -> Suspicion {
        let most = (self.facts.vocabulary as f64).ln();
        let steps = self.lasted(|line| line["entropy"].as_f64() >= Some(RANDOM * most))?;
        let text = format!(
            "in {} tokens were drawn all but at random (entropy {:.2} of at most {most:.2} nats): the policy has learned nothing yet, or too large a learning rate has destroyed it",
            last_steps(steps),
            self.number("entropy")?
        );
        Some(("random tokens", text))
    }

    fn unknown_tokens(&self) -> Suspicion {
        let (rollouts, unknown) = (self.number("rollouts")?, self.number("unknown_token_rollouts")?);
        (unknown > UNKNOWN * rollouts).then(|| {
            let text = format!(
                "{unknown} of {rollouts} completions have tokens that the tokenizer does not know: the model has {} and the tokenizer {}; is it the model's tokenizer, and are the weights sound?",
                self.facts.vocabulary, self.facts.known_tokens
            );
            ("unknown tokens", text)
        })
    }

    /// JSON has no NaN: where it should stand is null.
    fn no_number(&self) -> Suspicion {
        let line = self.last()?.as_object()?;
        let key = ["loss", "grad_norm", "entropy", "kl", "margin"]
            .into_iter()
            .find(|key| line.get(*key).is_some_and(Value::is_null))?;
        Some((
            "no number",
            format!("`{key}` is no finite number: the policy may be beyond repair from this step on"),
        ))
    }

    fn worse_than_guessing(&self) -> Suspicion {
        let guessing = (self.facts.vocabulary as f64).ln();
        let steps = self.lasted(|line| line["loss"].as_f64() > Some(guessing + BEYOND_GUESSING))?;
        let text = format!(
            "in {} the loss was worse than that of guessing among all tokens ({:.2} against {guessing:.2} nats): the learning rate may be too large",
            last_steps(steps),
            self.number("loss")?
        );
        Some(("worse than guessing", text))
    }

    /// Means of the first and of the last steps, once there are enough.
    fn means(&self, key: &str) -> Option<(f64, f64)> {
        let values: Vec<f64> = self.lines.iter().filter_map(|line| line[key].as_f64()).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        (values.len() >= PATIENCE).then(|| (mean(&values[..WINDOW]), mean(&values[values.len() - WINDOW..])))
    }

    fn loss_stands_still(&self) -> Suspicion {
        let (first, last) = self.means("loss")?;
        (last >= first && last > 0.0).then(|| {
            let text = format!(
                "the loss has not fallen since the stage began, from {first:.4} to {last:.4} in {} steps",
                self.lines.len()
            );
            ("loss", text)
        })
    }

    fn margin_stands_still(&self) -> Suspicion {
        let (first, last) = self.means("margin")?;
        (last <= first).then(|| {
            let text = format!(
                "the margin between chosen and rejected has not risen since the stage began, from {} to {} in {} steps",
                fixed(first, 3),
                fixed(last, 3),
                self.lines.len()
            );
            ("margin", text)
        })
    }
}

fn last_steps(steps: usize) -> String {
    if steps == 1 { "the only step".into() } else { format!("the last {steps} steps") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(stage: StageName, steps: u64) -> Facts {
        Facts { stage, steps, vocabulary: 100, known_tokens: 90, within_groups: true }
    }

    /// What is suspected at each of these steps of a stage that has so many.
    fn seen(facts: &Facts, count: u64, line: impl Fn(u64) -> Value) -> Vec<Vec<String>> {
        let mut lines = Vec::new();
        (1..=count)
            .map(|step| {
                let mut now = line(step);
                now["step"] = step.into();
                lines.push(now);
                suspicions(facts, &lines).into_iter().map(|(what, _)| what).collect()
            })
            .collect()
    }

    fn healthy(step: u64) -> Value {
        json!({
            "rollouts": 64, "absent_rewards": 0, "groups": 8, "zero_variance_groups": step % 9, "reward_mean": 0.5,
            "reward_std": 0.5, "truncation_rate": if step.is_multiple_of(2) { 1.0 } else { 0.2 }, "entropy": 1.0, "loss": 0.0,
        })
    }

    #[test]
    fn a_healthy_stage_is_not_suspected_of_anything() {
        let quiet = |stage, line: &dyn Fn(u64) -> Value| {
            assert!(seen(&facts(stage, 100), 100, line).iter().all(Vec::is_empty), "{stage:?}");
        };
        quiet(StageName::Rl, &healthy);
        quiet(StageName::Sft, &|step| json!({ "loss": 4.6 / step as f64, "grad_norm": 1.0 }));
        quiet(StageName::Preference, &|step| json!({ "loss": 0.7, "margin": 0.01 * step as f64 }));
    }

    #[test]
    fn what_lasts_is_suspected_and_what_a_step_shows_by_chance_is_not() {
        let cases = [
            ("equal rewards", json!({ "zero_variance_groups": 8, "reward_mean": 0.0, "reward_std": 0.0 })),
            ("equal rewards", json!({ "groups": 0, "zero_variance_groups": 0, "dropped_groups": 8 })),
            ("cut off", json!({ "truncation_rate": 0.98 })),
            ("random tokens", json!({ "entropy": 4.4 })),
        ];
        for (what, bad) in cases {
            let line = |step| {
                let mut line = healthy(step);
                line["truncation_rate"] = 0.2.into();
                line["zero_variance_groups"] = 1.into();
                line.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
                line
            };
            let found = seen(&facts(StageName::Rl, 100), 6, line);
            assert!(found[..4].iter().all(Vec::is_empty), "{what}: {found:?}");
            assert_eq!(found[4..], [[what], [what]], "{what}");
            // a stage of two steps has no five
            assert_eq!(seen(&facts(StageName::Rl, 2), 2, line), [vec![], vec![what.to_owned()]], "{what}");
        }
        let equal = |step| {
            let mut line = healthy(step);
            line["zero_variance_groups"] = 8.into();
            line["truncation_rate"] = 0.0.into();
            line
        };
        let other = Facts { within_groups: false, ..facts(StageName::Rl, 9) };
        assert!(
            seen(&other, 9, equal).iter().all(Vec::is_empty),
            "a baseline from elsewhere learns from them"
        );
    }

    #[test]
    fn a_step_without_any_reward_and_tokens_that_nobody_knows_are_suspected_at_once() {
        let line = |more: Value| {
            move |_: u64| {
                let mut line = healthy(1);
                line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                line
            }
        };
        let first = |more| seen(&facts(StageName::Rl, 9), 1, line(more)).remove(0);
        assert_eq!(first(json!({ "absent_rewards": 64 })), ["no rewards"]);
        assert_eq!(first(json!({ "unknown_token_rollouts": 62 })), ["unknown tokens"]);
        assert_eq!(first(json!({ "unknown_token_rollouts": 1 })), Vec::<String>::new());
        assert_eq!(first(json!({ "loss": null })), ["no number"]);
    }

    #[test]
    fn a_loss_that_explodes_or_stands_still_and_a_margin_that_does_not_grow_are_suspected() {
        let sft = |line: fn(u64) -> Value| seen(&facts(StageName::Sft, 100), 60, line).remove(59);
        assert_eq!(sft(|_| json!({ "loss": 30.0 })), ["worse than guessing", "loss"]);
        assert_eq!(sft(|_| json!({ "loss": 2.0 })), ["loss"]);
        let preference =
            |line: fn(u64) -> Value| seen(&facts(StageName::Preference, 100), 60, line).remove(59);
        assert_eq!(preference(|step| json!({ "margin": -0.1 * step as f64 })), ["margin"]);
    }
}
