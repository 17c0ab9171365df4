//! Keys of a recipe that do not fit each other, which the types cannot say.

use engine::allocation::AllocationConfig;
use engine::batch::{Overlong, Truncated};
use engine::mixture::Alpha;
use engine::schedule::Schedule;
use engine::selection::SelectionConfig;
use engine::transform::OptimizerConfig;

use super::error::RecipeError;
use super::numbers::{Count, GroupSize};
use super::root::Recipe;
use super::stages::{PairsRecipe, PreferenceRecipe, RlRecipe, SftRecipe};
use super::tables::EvalRecipe;

impl Recipe {
    /// Refuses keys that contradict each other.
    ///
    /// # Errors
    /// The first that do, in the order of the checks.
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        self.conflict().map_err(|problem| RecipeError::Conflict { name: self.name().to_owned(), problem })
    }

    fn conflict(&self) -> Result<(), String> {
        if self.sft.is_none() && self.rl.is_none() && self.preference.is_none() {
            return Err("it has no [sft], [rl] or [preference] table, so there is nothing to do".into());
        }
        if let Some(problem) = self.rollout.problem() {
            return Err(format!("[rollout] {problem}"));
        }
        self.preference.as_ref().map_or(Ok(()), preference)?;
        self.sft.as_ref().map_or(Ok(()), sft)?;
        self.rl.as_ref().map_or(Ok(()), rl)?;
        self.eval.as_ref().map_or(Ok(()), eval)?;
        if self.eval.is_none() && self.save.best.as_ref().is_some_and(|metric| metric.contains("eval")) {
            return Err("[save] best is a metric of [eval], which the recipe does not have".into());
        }
        let optimizers = [
            ("sft", self.sft.as_ref().map(|sft| &sft.optimizer)),
            ("rl", self.rl.as_ref().map(|rl| &rl.optimizer)),
            ("preference", self.preference.as_ref().map(|preference| &preference.optimizer)),
        ];
        for (stage, optimizer) in optimizers {
            if let Some(problem) = optimizer.and_then(OptimizerConfig::problem) {
                return Err(format!("[{stage}] {problem}"));
            }
        }
        let schedules = [
            ("sft", self.sft.as_ref().map(|sft| &sft.schedule)),
            ("rl", self.rl.as_ref().map(|rl| &rl.schedule)),
            ("preference", self.preference.as_ref().map(|preference| &preference.schedule)),
        ];
        for (stage, schedule) in schedules {
            schedule.map_or(Ok(()), |schedule| of_schedule(stage, schedule))?;
        }
        Ok(())
    }
}

/// Refuses a product of two counts that is larger than `most`.
fn within(what: &str, a: usize, b: usize, most: usize) -> Result<(), String> {
    match a.checked_mul(b).filter(|all| *all <= most) {
        Some(_) => Ok(()),
        None => Err(format!("{what} is {a} · {b}; wanted at most {most} together")),
    }
}

fn preference(preference: &PreferenceRecipe) -> Result<(), String> {
    if preference.sampling.thinking_budget.is_some() {
        return Err("[preference.sampling] thinking_budget puts tokens into completions that the policy did not draw, and pairs learn from all of theirs".into());
    }
    if let Some(problem) = preference.mixture.problem() {
        return Err(format!("[preference.mixture] {problem}"));
    }
    if !matches!(preference.mixture.alpha, Alpha::Fixed(_)) && preference.pairs_per_step.get() < 2 {
        return Err("[preference.mixture] alpha is found from how the gradients of pairs differ, and pairs_per_step is 1; wanted at least 2, or alpha = { fixed = 0.5 }".into());
    }
    if let Some(problem) = preference.sampling.problem() {
        return Err(format!("[preference.sampling] {problem}"));
    }
    if let PairsRecipe::Sample(sample) = &preference.pairs {
        let place = "[preference.pairs.sample] prompts · group_size";
        within(place, sample.prompts.get(), sample.group_size.get(), 1 << 24)?;
    }
    if let PairsRecipe::Sample(sample) = &preference.pairs
        && (sample.branches.is_empty() || preference.sampling.temperature == 0.0)
    {
        return Err("[preference.pairs.sample] needs at least one branch and a temperature above 0: all rollouts would be alike".into());
    }
    Ok(())
}

fn sft(sft: &SftRecipe) -> Result<(), String> {
    if sft.answer_templates.is_empty() {
        return Err("[sft] answer_templates is empty; wanted at least one, such as \"{answer}\"".into());
    }
    if let Some(bad) = sft.answer_templates.iter().find(|template| !template.contains("{answer}")) {
        return Err(format!("[sft] answer template {bad:?} has no {{answer}}, so it would teach nothing"));
    }
    Ok(())
}

fn rl(rl: &RlRecipe) -> Result<(), String> {
    if let Some(problem) = rl.selection.build().problem() {
        return Err(format!("[rl] {problem}"));
    }
    if rl.mixture.is_some() && matches!(rl.selection, SelectionConfig::Importance(_)) {
        return Err("[rl] selection.importance weighs the gradient of each prompt, and mixture has two gradients a prompt whose weights it finds \
                    itself; leave one of them out".into());
    }
    if let Some(problem) = rl.sampling.problem() {
        return Err(format!("[rl.sampling] {problem}"));
    }
    if rl.sampling.temperature == 0.0 {
        return Err(
            "[rl.sampling] temperature is 0, which makes all rollouts of a group alike; wanted more than 0"
                .into(),
        );
    }
    let baseline = rl.baseline.build();
    if let Err(problem) = GroupSize::try_from(rl.group_size.get())
        && baseline.compares()
    {
        return Err(format!(
            "[rl] group_size: {problem}: baseline = \"{}\" compares the rollouts of a group with each other; \"none\", \"greedy\" and \"history\" do not",
            rl.baseline.name()
        ));
    }
    if rl.group_size.get() == 1 && rl.dynamic_sampling.is_some() {
        return Err("[rl] dynamic_sampling waits for groups whose rewards differ, and group_size is 1: there are none".into());
    }
    let (allocation, size) = (rl.allocation.build(), rl.group_size.get());
    if let Some(problem) = allocation.problem(size).or(rl.down_sample.and_then(|keep| keep.problem(size))) {
        return Err(format!("[rl] {problem}"));
    }
    if rl.allocation != AllocationConfig::Uniform && rl.mixture.is_some() {
        return Err("[rl] allocation and mixture do not go together: both branches have the same rollouts of each prompt".into());
    }
    if allocation.needs_norms() && !baseline.needs().weights.is_exact() {
        return Err(format!(
            "[rl] allocation = \"{}\" needs gradient norms of rollouts, and baseline = \"{}\" measures none; wanted baseline.optimal with weights = \"full\"",
            rl.allocation.name(),
            rl.baseline.name()
        ));
    }
    if rl.sampling.thinking_budget.is_some() && baseline.needs().measures_completions() {
        return Err("[rl.sampling] thinking_budget puts tokens into completions that the policy did not draw, and a weighted baseline measures gradients of whole completions".into());
    }
    if rl.overlap > 0 && rl.mixture.is_some() {
        return Err("[rl] overlap and mixture do not go together".into());
    }
    if rl.overlap > 0 && rl.sampling.reshapes() {
        return Err("[rl] overlap weighs rollouts by π_now/π_sampled, which needs log-probs of the whole distribution: leave top_k, top_p, min_p and what changes logits out of [rl.sampling]".into());
    }
    if let Some(mixture) = &rl.mixture {
        if let Some(problem) = mixture.problem() {
            return Err(format!("[rl.mixture] {problem}"));
        }
        if mixture.alpha == Alpha::Regression {
            return Err("[rl.mixture] alpha = \"regression\" needs two independent halves of the thinking branch, and the rollouts of a group share its baseline; use \"moment\" here, \"regression\" under [preference]".into());
        }
        if rl.epochs.get() * rl.mini_batches.get() > 1
            || rl.dynamic_sampling.is_some()
            || rl.baseline.build().needs().greedy
        {
            return Err("[rl.mixture] goes with one update a step, without dynamic_sampling and without the greedy baseline".into());
        }
    }
    if let Some(problem) = rl.trainer().problem() {
        return Err(format!("[rl] {problem}"));
    }
    let of_an_update = rl.prompts_per_step.get().div_ceil(rl.mini_batches.get());
    if rl.schedule.snr.is_some() && of_an_update < 2 {
        return Err(format!(
            "[rl] schedule.snr compares the gradients of prompt groups within an update, and each has 1: prompts_per_step is {} and mini_batches {}; wanted at least 2 prompts an update",
            rl.prompts_per_step.get(),
            rl.mini_batches.get()
        ));
    }
    if rl.mixture.is_some_and(|mixture| mixture.alpha == Alpha::Moment) && rl.prompts_per_step.get() < 2 {
        return Err("[rl.mixture] alpha = \"moment\" compares the gradients of prompts, and prompts_per_step is 1; wanted at least 2".into());
    }
    if let Truncated::Overlong(Overlong { buffer, .. }) = rl.truncated
        && !(0.0..=1.0).contains(&buffer)
    {
        return Err(format!("[rl] truncated.overlong.buffer is {buffer}; wanted 0 to 1"));
    }
    within("[rl] prompts_per_step · group_size", rl.prompts_per_step.get(), rl.group_size.get(), 1 << 22)?;
    within("[rl] mini_batches · epochs", rl.mini_batches.get(), rl.epochs.get(), 1 << 20)?;
    if rl.mini_batches > rl.prompts_per_step {
        return Err(format!(
            "[rl] mini_batches is {}, but a step has only {} prompts, and a group stays whole",
            rl.mini_batches.get(),
            rl.prompts_per_step.get()
        ));
    }
    Ok(())
}

fn eval(eval: &EvalRecipe) -> Result<(), String> {
    let temperature = eval.temperature.unwrap_or(1.0);
    if !(temperature.is_finite() && temperature >= 0.0) {
        return Err(format!("[eval] temperature is {temperature}; wanted at least 0"));
    }
    if let Some(samples) = eval.samples.filter(|samples| samples.get() > 1 && temperature == 0.0) {
        return Err(format!(
            "[eval] samples is {} at temperature 0, where all of them would be the same",
            samples.get()
        ));
    }
    within("[eval] prompts · samples", eval.prompts.get(), eval.samples.map_or(1, Count::get), 1 << 24)?;
    if eval.bench.is_some() && (eval.data.is_some() || eval.reward.is_some()) {
        return Err("[eval] bench brings its own data and reward; wanted it without them".into());
    }
    Ok(())
}

fn of_schedule(stage: &str, schedule: &Schedule) -> Result<(), String> {
    if !(schedule.learning_rate.is_finite() && schedule.learning_rate > 0.0) {
        return Err(format!(
            "[{stage}.schedule] learning_rate is {}; wanted a number above 0",
            schedule.learning_rate
        ));
    }
    if schedule.snr.is_some() && stage != "rl" {
        return Err(format!(
            "[{stage}.schedule] has snr, but signal and noise are measured in the [rl] stage only"
        ));
    }
    if !(0.0..=1.0).contains(&schedule.floor) {
        return Err(format!("[{stage}.schedule] floor is {}; wanted 0 to 1", schedule.floor));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_one_is_refused_exactly_where_rollouts_of_a_group_are_compared() {
        let load = |baseline: &str, more: &[&str]| {
            let sets = ["rl.group_size=1".to_owned(), format!("rl.baseline={baseline}")];
            let more = more.iter().map(|set| (*set).to_owned());
            Recipe::load("tiny", &sets.into_iter().chain(more).collect::<Vec<_>>())
        };
        for baseline in ["none", "greedy", "{history={}}"] {
            let recipe = load(baseline, &[]).expect(baseline);
            assert_eq!(recipe.rl.expect("rl").group_size.get(), 1);
            let error = load(baseline, &["rl.dynamic_sampling={}"]).expect_err(baseline).to_string();
            assert!(error.contains("group_size is 1: there are none"), "{error}");
        }
        let compared =
            ["group_mean", "leave_one_out", "{optimal={}}", "{optimal={shrink=2.0}}", "{token={}}"];
        for baseline in compared {
            let sets = ["rl.aggregate=token_mean"];
            let error = load(baseline, &sets).expect_err(baseline).to_string();
            assert!(
                error.contains("a group needs at least 2 rollouts to compare, not 1: baseline = "),
                "{error}"
            );
        }
        for preset in ["remax", "reinforce", "reinforce-pp"] {
            Recipe::load(&format!("tiny-{preset}"), &["rl.group_size=1".to_owned()]).expect(preset);
        }
    }

    #[test]
    fn what_compares_gradients_of_prompts_wants_two_of_them_in_an_update() {
        let refused = |name: &str, sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            Recipe::load(name, &sets).expect_err(name).to_string()
        };
        let error = refused("tiny-oblr", &["rl.prompts_per_step=4", "rl.mini_batches=4"]);
        assert!(
            error.contains("schedule.snr") && error.contains("prompts_per_step is 4 and mini_batches 4"),
            "{error}"
        );
        Recipe::load("tiny-oblr", &["rl.prompts_per_step=5".into(), "rl.mini_batches=4".into()])
            .expect("one of two");
        let error = refused("tiny-think", &["rl.prompts_per_step=1", "rl.mixture.alpha=moment"]);
        assert!(error.contains("alpha = \"moment\""), "{error}");
        let error = refused("tiny-bvpo", &["preference.pairs_per_step=1", "preference.mixture.alpha=moment"]);
        assert!(error.contains("pairs_per_step is 1"), "{error}");
    }

    #[test]
    fn a_correction_that_would_correct_nothing_is_refused() {
        let load = |correction: &str| Recipe::load("tiny", &[format!("rl.correction={correction}")]);
        let error = load("{level=\"geometric\"}").expect_err("refused").to_string();
        assert!(
            error.contains("correction.level = \"geometric\"") && error.contains("mode = \"mask\""),
            "{error}"
        );
        load("{level=\"geometric\",mode=\"mask\"}").expect("a mask");
    }
}
