//! Published methods by name: each stands for settings of `[rl]`, which a recipe's own win over.
//!
//! Before: a recipe says `preset = "dapo"`. After: [`crate::Recipe`] is read with the settings in place, and
//! `evenkeel check` shows them. What becomes of truncated rollouts is not a preset's to say. Each preset's file says where its
//! numbers are from, and which could not be confirmed.

use crate::nearest::did_you_mean;

/// Name, what it is, and its settings of `[rl]`.
pub(crate) const PRESETS: &[(&str, &str, &str)] = &[
    ("grpo", "DeepSeekMath, arXiv:2402.03300", include_str!("../presets/grpo.toml")),
    ("dr_grpo", "Dr. GRPO, arXiv:2503.20783", include_str!("../presets/dr_grpo.toml")),
    ("dapo", "DAPO, arXiv:2503.14476", include_str!("../presets/dapo.toml")),
    ("gspo", "GSPO, arXiv:2507.18071", include_str!("../presets/gspo.toml")),
    ("cispo", "CISPO, arXiv:2506.13585, as in ScaleRL", include_str!("../presets/cispo.toml")),
    ("sapo", "SAPO, arXiv:2511.20347", include_str!("../presets/sapo.toml")),
    ("gmpo", "GMPO, arXiv:2507.20673", include_str!("../presets/gmpo.toml")),
    ("rloo", "RLOO, arXiv:2402.14740", include_str!("../presets/rloo.toml")),
    ("remax", "ReMax, arXiv:2310.10505", include_str!("../presets/remax.toml")),
    ("reinforce", "REINFORCE with each prompt's past reward", include_str!("../presets/reinforce.toml")),
    ("reinforce_pp", "REINFORCE++, arXiv:2501.03262", include_str!("../presets/reinforce_pp.toml")),
    (
        "reinforce_pp_baseline",
        "REINFORCE++ with a group baseline, arXiv:2501.03262",
        include_str!("../presets/reinforce_pp_baseline.toml"),
    ),
    ("lite_ppo", "Lite PPO, arXiv:2508.08221", include_str!("../presets/lite_ppo.toml")),
    ("opo", "OPO, arXiv:2505.23585", include_str!("../presets/opo.toml")),
    ("otb", "optimal token baseline, arXiv:2602.07078", include_str!("../presets/otb.toml")),
    ("oblr", "OBLR-PO, arXiv:2511.23310", include_str!("../presets/oblr.toml")),
];

/// Methods that people look for under a name that no preset has, and what there is instead.
const RELATIVES: &[(&str, &str)] = &[
    (
        "ppo",
        "PPO needs a value model, which this program has not; `grpo` has its clipped loss with a baseline from the group",
    ),
    ("vapo", "VAPO needs a value model, which this program has not; `dapo` is the nearest without one"),
    ("dpo", "pairs of completions are learnt from in the stage [preference], not by a preset of [rl]"),
    ("ipo", "pairs of completions are learnt from in the stage [preference], not by a preset of [rl]"),
    ("simpo", "pairs of completions are learnt from in the stage [preference], not by a preset of [rl]"),
    (
        "bvpo",
        "BVPO is the stage [preference] with its `mixture`, or `[rl.mixture]`; see the recipe `tiny-bvpo`",
    ),
    ("sft", "supervised learning is the stage [sft], not a preset of [rl]"),
    ("raft", "`reinforce` is the nearest"),
    ("pg", "`reinforce` is the plain policy gradient"),
    ("vpg", "`reinforce` is the plain policy gradient"),
    ("minimaxm1", "its loss is `cispo`"),
    ("deepseekr1", "it was trained by `grpo`"),
    ("r1", "it was trained by `grpo`"),
    ("reinforce++", "it is called `reinforce_pp`"),
    ("reinforce++baseline", "it is called `reinforce_pp_baseline`"),
];

/// A sentence about what may have been meant by the name of a preset that there is not; nothing if that is unknown.
pub(crate) fn hint(name: &str) -> String {
    let plain = name.to_lowercase().replace(['-', '_', ' '], "");
    match RELATIVES.iter().find(|(known, _)| *known == plain) {
        Some((_, text)) => format!("\n{text}"),
        None => did_you_mean(name, PRESETS.iter().map(|(known, _, _)| *known)),
    }
}

/// Updates that a preset makes of an epoch.
pub(crate) fn mini_batches(settings: &str) -> i64 {
    let settings: toml::Table = settings.parse().expect("presets are valid TOML, as a test says");
    settings.get("mini_batches").and_then(toml::Value::as_integer).unwrap_or(1)
}

/// Tables of which a recipe names one of several choices, so that another choice takes the place of the preset's.
const CHOICES: [&str; 3] = ["objective", "baseline", "aggregate"];

/// Puts a preset's settings under those of a recipe's `[rl]` and takes the key `preset` away.
///
/// # Errors
/// If there is no preset of that name; the known ones, for the message.
pub(crate) fn expand(rl: &mut toml::Table) -> Result<(), (String, Vec<&'static str>)> {
    let Some(name) = rl.remove("preset").and_then(|name| name.as_str().map(str::to_owned)) else {
        return Ok(());
    };
    let Some((_, _, text)) = PRESETS.iter().find(|(known, _, _)| *known == name) else {
        return Err((name, PRESETS.iter().map(|(name, _, _)| *name).collect()));
    };
    let mut settings: toml::Table = text.parse().expect("presets are valid TOML, as a test says");
    // a group stays whole: of a step with fewer prompts than the paper has mini-batches, each prompt is one
    if let (Some(toml::Value::Integer(mini_batches)), Some(toml::Value::Integer(prompts))) =
        (settings.get_mut("mini_batches"), rl.get("prompts_per_step"))
    {
        *mini_batches = (*mini_batches).min((*prompts).max(1));
    }
    fill(rl, &settings, false);
    Ok(())
}

/// Adds what `table` does not say itself. Within a choice nothing is added to another choice.
fn fill(table: &mut toml::Table, settings: &toml::Table, choice: bool) {
    if choice && !table.is_empty() && !settings.keys().any(|key| table.contains_key(key)) {
        return;
    }
    for (key, value) in settings {
        match (table.get_mut(key), value) {
            (None, _) => {
                table.insert(key.clone(), value.clone());
            }
            (Some(toml::Value::Table(own)), toml::Value::Table(settings)) => {
                fill(own, settings, CHOICES.contains(&key.as_str()));
            }
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> toml::Table {
        let mut table: toml::Table = text.parse().expect("TOML");
        expand(&mut table).expect("a preset");
        table
    }

    #[test]
    fn a_recipe_wins_over_its_preset_key_by_key() {
        let rl = expanded("preset = \"dapo\"\nsteps = 3\n[objective.grpo]\nclip_low = 0.1\n");
        assert!(!rl.contains_key("preset"));
        let grpo = rl["objective"]["grpo"].as_table().expect("a table");
        assert_eq!((grpo["clip_low"].as_float(), grpo["clip_high"].as_float()), (Some(0.1), Some(0.28)));
        assert_eq!(rl["steps"].as_integer(), Some(3));
    }

    #[test]
    fn another_choice_takes_the_presets_place_whole() {
        let rl = expanded("preset = \"dapo\"\n[objective.cispo]\ncap = 3.0\n");
        let objective = rl["objective"].as_table().expect("a table");
        assert!(
            objective.len() == 1 && objective["cispo"].as_table().expect("a table").len() == 1,
            "{objective}"
        );
        let rl = expanded("preset = \"opo\"\nbaseline = \"group_mean\"\n");
        assert_eq!(rl["baseline"].as_str(), Some("group_mean"));
    }

    #[test]
    fn a_step_of_few_prompts_has_as_many_mini_batches_at_most_unless_it_says_so_itself() {
        let mini_batches = |text: &str| expanded(text)["mini_batches"].as_integer();
        assert_eq!(mini_batches("preset = \"dapo\"\nprompts_per_step = 64\n"), Some(16));
        assert_eq!(mini_batches("preset = \"dapo\"\nprompts_per_step = 8\n"), Some(8));
        assert_eq!(mini_batches("preset = \"dapo\"\nprompts_per_step = 8\nmini_batches = 9\n"), Some(9));
    }

    #[test]
    fn every_preset_says_its_learning_rate_and_where_its_numbers_are_from() {
        for (name, _, text) in PRESETS {
            let settings: toml::Table = text.parse().expect(name);
            assert!(settings["schedule"]["learning_rate"].as_float() > Some(0.0), "{name}");
            assert!(text.starts_with("# "), "{name}");
        }
    }

    #[test]
    fn an_unknown_preset_is_named() {
        let mut table: toml::Table = "preset = \"drgrpo\"".parse().expect("TOML");
        let (name, known) = expand(&mut table).expect_err("refused");
        assert!(name == "drgrpo" && known.contains(&"dr_grpo"));
    }
}
