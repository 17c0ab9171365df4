//! A checkpoint by the run that it is of: a run's folder means its newest, `RUN@best` and `RUN@120` others.
//!
//! Before: what somebody typed. After: a folder in Hugging Face layout, or whatever it was if that is no run.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::best::Best;
use crate::save;
use crate::usage::Usage;

/// The folder of weights that a name means.
///
/// # Errors
/// If it is a run that has no such checkpoint.
pub(crate) fn checkpoint_of(source: &str) -> Result<String> {
    if is_run(Path::new(source)) {
        return match save::latest(Path::new(source))? {
            Some(place) => Ok(place.display().to_string()),
            None => Err(none(source, "has no checkpoint yet")),
        };
    }
    let wish = source.rsplit_once('@').or_else(|| source.strip_suffix("/best").map(|run| (run, "best")));
    let Some((run, wish)) = wish.filter(|(run, _)| is_run(Path::new(run)) && !Path::new(source).exists())
    else {
        return Ok(source.to_owned());
    };
    let checkpoints = Path::new(run).join("checkpoints");
    let found = match wish {
        "best" => match Best::read(&checkpoints)? {
            Some(best) => Some(checkpoints.join(best.checkpoint)),
            None => {
                return Err(none(
                    run,
                    "keeps no best checkpoint; `[save] best` names a metric to keep one by",
                ));
            }
        },
        "latest" => save::latest(Path::new(run))?,
        wish => numbered(&checkpoints, wish),
    };
    match found.filter(|place| place.is_dir()) {
        Some(place) => Ok(place.display().to_string()),
        None => {
            Err(none(run, &format!("has no checkpoint `{wish}`; it has {}", names(&checkpoints).join(", "))))
        }
    }
}

/// True of a folder that a run was made in.
pub(crate) fn is_run(folder: &Path) -> bool {
    folder.join("checkpoints").is_dir() && folder.join("recipe.toml").is_file()
}

fn none(run: &str, what: &str) -> anyhow::Error {
    Usage::error(format!("the run `{run}` {what}"))
}

/// `step-000120` by its name, or by its number alone if only one stage has it.
fn numbered(checkpoints: &Path, wish: &str) -> Option<PathBuf> {
    let names = names(checkpoints);
    let number = |name: &str| name.rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok());
    let mut same = names
        .iter()
        .filter(|name| *name == wish || wish.parse::<u64>().is_ok_and(|wish| number(name) == Some(wish)));
    match (same.next(), same.next()) {
        (Some(only), None) => Some(checkpoints.join(only)),
        _ => None,
    }
}

/// Checkpoints that are there, in order.
fn names(checkpoints: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(checkpoints).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("config.json").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.contains('.'))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_means_its_newest_checkpoint_and_others_are_named_behind_an_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let (run, checkpoints) = (folder.path().join("run"), folder.path().join("run/checkpoints"));
        for name in ["sft-000040", "step-000040", "step-000050"] {
            std::fs::create_dir_all(checkpoints.join(name)).expect("made");
            for file in ["config.json", "state.json"] {
                std::fs::write(checkpoints.join(name).join(file), "{}").expect("written");
            }
        }
        std::fs::write(run.join("recipe.toml"), "").expect("written");
        std::fs::write(
            checkpoints.join("best.json"),
            r#"{"checkpoint":"step-000040","metric":"x","value":1.0}"#,
        )
        .expect("written");
        let of = |wish: &str| checkpoint_of(&format!("{}{wish}", run.display()));
        for (wish, name) in [
            ("@best", "step-000040"),
            ("/best", "step-000040"),
            ("@50", "step-000050"),
            ("@sft-000040", "sft-000040"),
        ] {
            assert_eq!(of(wish).expect(wish), checkpoints.join(name).display().to_string(), "{wish}");
        }
        // 40 is of two stages
        for wish in ["@7", "@40"] {
            let error = of(wish).expect_err(wish).to_string();
            assert!(error.contains("has no checkpoint") && error.contains("step-000050"), "{error}");
        }
        assert_eq!(checkpoint_of("Qwen/Qwen3-0.6B").expect("a name"), "Qwen/Qwen3-0.6B");
        assert_eq!(checkpoint_of("someone/model@main").expect("a name"), "someone/model@main");
    }
}
