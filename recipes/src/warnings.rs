//! What a plan can know to be questionable before anything is trained: settings without effect, and settings whose effect
//! is not what their name promises.
//!
//! Before: [`Plan`]. After: `evenkeel check` prints the warnings, `plan.json` holds them, and a run says them once as it begins.

use engine::batch::{Overlong, Truncated};
use engine::mixture::{Alpha, MixtureConfig};
use engine::objective::{KlEstimator, ObjectiveConfig};
use engine::selection::SelectionConfig;
use rollout::backend::BackendConfig;

use crate::plan::Plan;
use crate::recipe::{PairsRecipe, PreferenceRecipe, Recipe, RlRecipe, SftRecipe};

/// Each as a sentence that names the setting and says what would help.
pub(crate) fn warnings(plan: &Plan) -> Vec<String> {
    let mut found = of_recipe(&plan.recipe, plan.tasks.len());
    found.extend(crate::learns_nothing::warnings(plan));
    found.extend(plan.rewards.warnings());
    if let Some(rl) = &plan.recipe.rl
        && rl.correction.is_some()
        && plan.recipe.rollout.backend == BackendConfig::Local
        && plan.device.is_cpu()
        && rl.overlap == 0
        && !rl.sampling.reshapes()
    {
        found.push(
            "[rl] correction has no effect: this process samples with the very weights and arithmetic that it trains with, so \
             all of its weights are 1"
                .into(),
        );
    }
    found
}

/// Those that the recipe and the number of its prompts tell.
fn of_recipe(recipe: &Recipe, prompts: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |stage: &str, texts: Vec<String>| {
        found.extend(texts.into_iter().map(|text| format!("[{stage}] {text}")));
    };
    if let Some(sft) = &recipe.sft {
        say("sft", of_sft(sft));
    }
    if let Some(rl) = &recipe.rl {
        say("rl", of_rl(rl, prompts));
    }
    if let Some(preference) = &recipe.preference {
        say("preference", of_preference(preference, prompts));
    }
    found
}

fn of_rl(rl: &RlRecipe, prompts: usize) -> Vec<String> {
    let config = rl.trainer();
    let baseline = rl.baseline.build();
    let mut found = config.without_effect();
    found.extend(schedule(&rl.schedule, config.updates()));
    found.extend(rl.mixture.as_ref().and_then(mixture));
    if rl.group_size.get() == 1 && rl.scale == engine::baseline::Scale::Group {
        found.push(
            "scale = \"group\" has no effect: group_size is 1, and a single reward has no deviation; use \"batch\", \"whiten\" or \"none\""
                .into(),
        );
    }
    if let Truncated::Overlong(Overlong { buffer, limit }) = rl.truncated
        && limit as f32 * (1.0 - buffer) >= rl.sampling.max_tokens as f32
    {
        found.push(format!(
            "truncated.overlong has no effect: it begins at {:.0} tokens, and sampling.max_tokens is {}",
            limit as f32 * (1.0 - buffer),
            rl.sampling.max_tokens
        ));
    }
    let reshaping = rl.sampling.reshaping();
    if !reshaping.is_empty() && rl.correction.is_none() {
        found.push(format!(
            "sampling.{} draws tokens from another distribution than the one that is trained, so the gradient is biased, and mismatch_kl \
             shows by how much; leave it out, or set correction = {{}}, which weighs each token by π/π_sampled (what the \
             sampler can never draw stays unseen)",
            reshaping.join(", sampling.")
        ));
    }
    if rl.dynamic_sampling.is_some() && !baseline.is_within_group() {
        found.push(format!(
            "dynamic_sampling leaves out groups of equal rewards, and with baseline = \"{}\", which is not of the group alone, those \
             teach too: each prompt counts by the chance that its rewards differ, and the expected gradient is another one",
            rl.baseline.name()
        ));
    }
    if rl.dynamic_sampling.is_some() && matches!(rl.selection, SelectionConfig::Importance(_)) {
        found.push(
            "dynamic_sampling leaves out groups of equal rewards, so that the weights of selection = \"importance\" do not make the gradient that \
             of all prompts alike"
                .into(),
        );
    }
    if matches!(rl.objective, ObjectiveConfig::Reinforce(_)) && !config.is_on_policy() {
        found.push(format!(
            "objective = \"reinforce\" has no ratio: of a step's {} updates all but the first are biased; use one update a step, or \
             objective.cispo, which weighs each token by π/π_old",
            rl.epochs.get() * rl.mini_batches.get()
        ));
    }
    if let Some(kl) =
        config.loss.kl_in_loss().filter(|kl| kl.estimator == KlEstimator::K1 && !kl.importance_weighted)
    {
        found.push(format!(
            "kl.estimator = \"{}\" in the loss pulls nowhere: its gradient is 0 in expectation; use \"k2\", \"k3\", \"k3_plus\" or \
             place = \"reward\"",
            kl.estimator.name()
        ));
    }
    if rl.selection != SelectionConfig::Uniform
        && rl.selection.build().order().is_none()
        && rl.steps.get() * rl.prompts_per_step.get() <= prompts
    {
        found.push(format!(
            "selection = \"{}\" chooses by what is known of prompts that were drawn before, and a run that draws each of the {prompts} \
             prompts evenly would draw none twice: until then there is little to choose by",
            rl.selection.build().name()
        ));
    }
    if baseline.needs().prior && rl.steps.get() * rl.prompts_per_step.get() <= prompts {
        found.push(format!(
            "baseline = \"{}\" remembers each prompt's past rewards, and none of the {prompts} prompts is drawn twice: the mean of the \
             step's other prompts stands in for it throughout",
            rl.baseline.name()
        ));
    }
    found
}

fn of_sft(sft: &SftRecipe) -> Vec<String> {
    schedule(&sft.schedule, sft.steps.get() as u64).into_iter().chain(floor(&sft.schedule)).collect()
}

fn of_preference(preference: &PreferenceRecipe, prompts: usize) -> Vec<String> {
    let mut found: Vec<String> = schedule(&preference.schedule, preference.steps.get() as u64)
        .into_iter()
        .chain(floor(&preference.schedule))
        .chain(mixture(&preference.mixture))
        .collect();
    if let PairsRecipe::Sample(sample) = &preference.pairs
        && sample.prompts.get() > prompts
    {
        found.push(format!(
            "pairs.sample.prompts is {}, and there are {prompts} prompts: each is sampled once",
            sample.prompts.get()
        ));
    }
    if preference.mixture.alpha != Alpha::Moment && preference.chunks.get() != 8 {
        found.push(format!(
            "chunks = {} has no effect: mixture.alpha is not \"moment\"",
            preference.chunks.get()
        ));
    }
    found
}

fn schedule(schedule: &engine::schedule::Schedule, updates: u64) -> Option<String> {
    (schedule.warmup >= updates && schedule.warmup > 0).then(|| {
        format!(
            "schedule.warmup is {} updates, and the stage has {updates}: the learning rate reaches {:.1e} of {:.1e} at most",
            schedule.warmup,
            schedule.at(updates.saturating_sub(1), updates),
            schedule.learning_rate
        )
    })
}

fn floor(schedule: &engine::schedule::Schedule) -> Option<String> {
    (schedule.shape == engine::schedule::ScheduleShape::Constant && schedule.floor != 0.0)
        .then(|| format!("schedule.floor = {} has no effect: shape is \"constant\"", schedule.floor))
}

fn mixture(mixture: &MixtureConfig) -> Option<String> {
    let usual = MixtureConfig { alpha: mixture.alpha, ..MixtureConfig::default() };
    (matches!(mixture.alpha, Alpha::Fixed(_)) && *mixture != usual).then(|| {
        "mixture.decay, mixture.first and mixture.warmup have no effect: mixture.alpha is fixed".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, sets: &[&str]) -> String {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        of_recipe(&Recipe::load(name, &sets).expect(name), 10_000).join("\n")
    }

    #[test]
    fn no_built_in_recipe_says_what_has_no_effect() {
        for (name, _) in crate::builtin::recipes() {
            let recipe = Recipe::load(name, &[]).expect(name);
            let found = of_recipe(&recipe, 500);
            assert!(found.is_empty(), "{name}: {found:?}");
        }
    }

    #[test]
    fn settings_without_effect_are_named_with_the_reason() {
        for (sets, wanted) in [
            (
                &["rl.objective.grpo.clip_low=0.1"][..],
                "[rl] objective.grpo.clip_low = 0.1 has no effect: a step makes one update",
            ),
            (&["rl.objective={cispo={cap=3.0}}"], "objective.cispo.cap = 3"),
            (&["rl.objective={sapo={temperature_negative=2.0}}"], "objective.sapo.temperature_negative = 2"),
            (&["rl.objective={gmpo={clip=0.5}}"], "objective.gmpo.clip = 0.5"),
            (&["rl.objective={grpo={level=\"sequence\"}}"], "objective.grpo.level = \"sequence\""),
            (
                &["rl.kl={coefficient=0.1,place=\"reward\",estimator=\"k3\"}"],
                "kl.estimator = \"k3\" has no effect",
            ),
            (
                &["rl.kl={coefficient=0.1,place=\"reward\",importance_weighted=true}"],
                "kl.importance_weighted has no effect",
            ),
            (&["rl.kl={coefficient=0.1,estimator=\"k1\"}"], "pulls nowhere"),
            (&["rl.schedule.floor=0.1"], "schedule.floor = 0.1 has no effect"),
            (&["rl.schedule.warmup=500"], "schedule.warmup is 500 updates, and the stage has 120"),
            (&["rl.ledger.room=3.0"], "ledger.room = 3 has no effect"),
            (
                &["rl.truncated={overlong={limit=100}}"],
                "truncated.overlong has no effect: it begins at 80 tokens",
            ),
            (
                &["rl.baseline={optimal={mode=\"own\",cap=2.0}}", "rl.aggregate=token_mean"],
                "baseline.optimal.cap = 2",
            ),
            (
                &["rl.selection={variance={}}", "rl.steps=3"],
                "selection = \"variance\" chooses by what is known of prompts that were drawn before",
            ),
            (&["rl.baseline=none", "rl.group_size=1"], "scale = \"group\" has no effect: group_size is 1"),
        ] {
            let found = of("tiny", sets);
            assert!(found.contains(wanted), "{sets:?}: {found:?}");
        }
        assert!(of("tiny-bvpo", &["preference.mixture.first=0.2"]).contains("mixture.alpha is fixed"));
        // with several updates a step a ratio is not 1
        assert_eq!(of("tiny", &["rl.objective.grpo.clip_low=0.1", "rl.mini_batches=2"]), "");
        assert_eq!(of("tiny", &["rl.kl={coefficient=0.1,place=\"reward\"}"]), "");
    }

    #[test]
    fn what_biases_the_gradient_is_named_with_what_would_help() {
        let found = of("tiny", &["rl.sampling.top_p=0.9", "rl.sampling.repetition_penalty=1.1"]);
        assert!(found.contains("sampling.top_p, sampling.repetition_penalty draws tokens"), "{found}");
        assert!(found.contains("correction = {}"), "{found}");
        assert_eq!(of("tiny", &["rl.sampling.top_p=0.9", "rl.correction={}"]), "");
        let found = of("tiny-remax", &["rl.dynamic_sampling={}"]);
        assert!(found.contains("baseline = \"greedy\"") && found.contains("expected gradient"), "{found}");
        assert_eq!(of("tiny-rloo", &["rl.dynamic_sampling={}"]), "");
        let found = of("tiny", &["rl.objective={reinforce={}}", "rl.mini_batches=4"]);
        assert!(found.contains("of a step's 4 updates all but the first are biased"), "{found}");
        let found = of("tiny-reinforce", &["rl.steps=2"]);
        assert!(found.contains("none of the 10000 prompts is drawn twice"), "{found}");
    }
}
