//! What a plan can know of a run that will learn nothing, before it begins.
//!
//! Before: [`Plan`]. After: [`crate::warnings`] says it with the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use data::Prompt;

use crate::plan::Plan;

/// A larger share of prompts is worth a word.
const FEW: f64 = 0.01;
/// AdamW changes a weight by about its learning rate, and weights of language models are about this large.
const LARGE_RATE: f64 = 0.01;
/// Prompts that must have the same reference before that is strange.
const MANY: usize = 10;

/// Signs of it, each as a sentence.
pub(crate) fn warnings(plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(plan.prompts_alike());
    found.extend(plan.references());
    found.extend(plan.rates());
    found
}

impl Plan {
    fn prompts_alike(&self) -> Option<String> {
        let all = self.tasks.len();
        let mut answers: BTreeMap<&[u32], Vec<Option<&str>>> = BTreeMap::new();
        for task in &self.tasks {
            answers.entry(&task.tokens).or_default().push(task.prompt.reference());
        }
        let hint = format!(
            "does [prompt] template = {:?} name the column that tells them apart, such as {{question}}?",
            self.recipe.prompt.template
        );
        if all > 1 && answers.len() == 1 {
            return Some(format!("all {all} prompts are the same to the policy: {hint}"));
        }
        let differ = |answers: &&Vec<Option<&str>>| answers.iter().any(|answer| *answer != answers[0]);
        let torn: usize = answers.values().filter(differ).map(Vec::len).sum();
        (torn as f64 > 0.2 * all as f64).then(|| {
            format!("{torn} of {all} prompts are the same to the policy as one with another reference answer: {hint}")
        })
    }

    fn references(&self) -> Vec<String> {
        let rewards = &self.recipe.rewards;
        let all = self.tasks.len();
        let among = |wrong: &dyn Fn(&Arc<Prompt>) -> bool| {
            let wrong: Vec<&Arc<Prompt>> =
                self.tasks.iter().map(|task| &task.prompt).filter(|prompt| wrong(prompt)).collect();
            wrong.first().map(|first| (wrong.len(), (*first).clone()))
        };
        let compares = [("math", rewards.math.is_some()), ("exact_match", rewards.exact_match.is_some())];
        let name = compares.into_iter().find_map(|(name, there)| there.then_some(name));
        let mut found = Vec::new();
        if let Some(name) = name
            && let Some((count, first)) = among(&|prompt| prompt.reference().is_none())
            && count as f64 > FEW * all as f64
        {
            found.push(format!(
                "{count} of {all} prompts have no reference answer for [rewards.{name}], such as `{}`: see [data] columns",
                first.id
            ));
        }
        if rewards.math.is_some()
            && let Some((count, first)) = among(&|prompt| {
                prompt.reference().is_some() && !prompt.references().any(rewards::math::readable)
            })
            && count as f64 > FEW * all as f64
        {
            found.push(format!(
                "{count} of {all} reference answers are nothing that [rewards.math] can read, so that only the same letters are right: that of `{}` is {:?}",
                first.id,
                brief(first.reference().unwrap_or_default())
            ));
        }
        let first = self.tasks.first().and_then(|task| task.prompt.reference());
        if let (Some(first), Some(name)) = (first, name)
            && all >= MANY
            && self.tasks.iter().all(|task| task.prompt.reference() == Some(first))
        {
            found.push(format!(
                "all {all} prompts have the same reference answer for [rewards.{name}], {:?}",
                brief(first)
            ));
        }
        found
    }

    fn rates(&self) -> Vec<String> {
        let recipe = &self.recipe;
        let stages = [
            ("sft", recipe.sft.as_ref().map(|stage| &stage.schedule)),
            ("rl", recipe.rl.as_ref().map(|stage| &stage.schedule)),
            ("preference", recipe.preference.as_ref().map(|stage| &stage.schedule)),
        ];
        let large = |(name, schedule): (&str, Option<&engine::schedule::Schedule>)| {
            let rate = schedule?.learning_rate;
            (rate >= LARGE_RATE).then(|| {
                format!(
                    "{name}.schedule.learning_rate is {rate}: AdamW changes every weight by about that much in each update, and the weights of language models are about 0.02"
                )
            })
        };
        stages.into_iter().filter_map(large).collect()
    }
}

fn brief(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
