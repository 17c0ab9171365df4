//! Files that a recipe names: seen from the recipe's own folder, else from where the program was started.
//!
//! Before: paths as they are written. After: whole paths, so that a run's `recipe.toml` means the same files from anywhere. A
//! path that was given by `--set` is seen from where the program was started first, as one on a command line is.

use std::path::{Path, PathBuf};

use super::rewards::RewardsRecipe;
use super::root::Recipe;
use super::stages::PairsRecipe;
use super::tables::{DataRecipe, FileRecipe};
use super::wording::keys_of;

/// Needed as the RL stage begins, and no more when a run goes on.
const PROMPT_STATS: &str = "rl.prompt_stats";

/// Folders that paths are seen from.
pub(super) struct Places<'a> {
    /// The recipe's folder; none if it is built in.
    pub(super) base: Option<&'a Path>,
    /// Values that the command line gave.
    pub(super) sets: &'a [String],
}

impl Places<'_> {
    /// Folders to look in, the first one first.
    fn folders(&self, key: &str) -> Vec<PathBuf> {
        let here = std::env::current_dir().ok();
        let base = self.base.and_then(|base| std::path::absolute(base).ok());
        let key: Vec<&str> = key.split('.').collect();
        let given = self.sets.iter().map(|set| keys_of(set)).any(|set| {
            !set.is_empty() && set.len() <= key.len() && set.iter().zip(&key).all(|(a, b)| a == b)
        });
        let mut all: Vec<PathBuf> =
            if given { [here, base] } else { [base, here] }.into_iter().flatten().collect();
        all.dedup();
        all
    }

    /// Makes a path whole if there is something at it.
    fn locate(&self, key: &str, path: &mut PathBuf) {
        let named = path.clone();
        if let Some(found) =
            self.folders(key).into_iter().map(|folder| folder.join(&named)).find(|p| is_there(p))
        {
            *path = tidy(&found);
        }
    }
}

/// Whether there is something at a path, or behind a pattern.
fn is_there(path: &Path) -> bool {
    path.exists() || path.to_str().is_some_and(|pattern| matched(pattern).is_ok_and(|all| !all.is_empty()))
}

/// The files behind a pattern, in the order of their names; none if it has no wildcard.
pub(crate) fn matched(pattern: &str) -> Result<Vec<PathBuf>, String> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok(Vec::new());
    }
    let paths = glob::glob(pattern).map_err(|error| error.to_string())?;
    let mut all = paths.collect::<Result<Vec<PathBuf>, _>>().map_err(|error| error.to_string())?;
    all.retain(|path| path.is_file());
    all.sort();
    Ok(all)
}

/// A path without `.` in it; `..` stays, since it may follow a link.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != std::path::Component::CurDir).collect()
}

/// Calls `f` with every path of some data, and its key.
fn of_data(key: &str, data: &mut DataRecipe, f: &mut dyn FnMut(&str, &mut PathBuf)) {
    match data {
        DataRecipe::Jsonl(file) => of_file(&format!("{key}.jsonl"), file, f),
        DataRecipe::Csv(file) => of_file(&format!("{key}.csv"), file, f),
        DataRecipe::Parquet(file) => of_file(&format!("{key}.parquet"), file, f),
        DataRecipe::Arithmetic(_) | DataRecipe::Countdown(_) => {}
    }
}

fn of_file(key: &str, file: &mut FileRecipe, f: &mut dyn FnMut(&str, &mut PathBuf)) {
    f(&format!("{key}.path"), &mut file.path);
    if let Some(overlap) = file.filter.as_mut().and_then(|filter| filter.overlap.as_mut()) {
        f(&format!("{key}.filter.overlap.path"), &mut overlap.path);
    }
}

/// A program may be a name that is looked for where programs are; with a separator it is a path.
fn program(key: &str, text: &mut String, f: &mut dyn FnMut(&str, &mut PathBuf)) {
    let mut path = PathBuf::from(&*text);
    if path.components().count() > 1 {
        f(key, &mut path);
        if let Some(found) = path.to_str() {
            found.clone_into(text);
        }
    }
}

fn of_rewards(rewards: &mut RewardsRecipe, f: &mut dyn FnMut(&str, &mut PathBuf)) {
    for (name, table) in &mut rewards.python {
        f(&format!("rewards.python.{name}.file"), &mut table.reward.file);
        if table.reward.python.components().count() > 1 {
            f(&format!("rewards.python.{name}.python"), &mut table.reward.python);
        }
    }
    for (name, table) in &mut rewards.command {
        if let Some(first) = table.reward.command.first_mut() {
            program(&format!("rewards.command.{name}.command"), first, f);
        }
    }
    if let Some(code) = &mut rewards.code {
        program("rewards.code.python", &mut code.reward.python, f);
    }
    #[cfg(feature = "local")]
    {
        for (name, table) in &mut rewards.reward_model {
            f(&format!("rewards.reward_model.{name}.path"), &mut table.reward.path);
        }
        for (name, table) in &mut rewards.local_judge {
            f(&format!("rewards.local_judge.{name}.path"), &mut table.reward.path);
        }
    }
}

fn of_recipe(recipe: &mut Recipe, f: &mut dyn FnMut(&str, &mut PathBuf)) {
    of_data("data", &mut recipe.data, f);
    of_rewards(&mut recipe.rewards, f);
    if let Some(path) = recipe.rl.as_mut().and_then(|rl| rl.prompt_stats.as_mut()) {
        f(PROMPT_STATS, path);
    }
    if let Some(preference) = &mut recipe.preference
        && let PairsRecipe::Jsonl(file) = &mut preference.pairs
    {
        f("preference.pairs.jsonl.path", &mut file.path);
    }
    if let Some(eval) = &mut recipe.eval {
        if let Some(data) = &mut eval.data {
            of_data("eval.data", data, f);
        }
        if let Some(bench) = eval.bench.as_mut().filter(|bench| bench.ends_with(".toml")) {
            let mut path = PathBuf::from(&*bench);
            f("eval.bench", &mut path);
            *bench = path.display().to_string();
        }
    }
}

impl Recipe {
    /// Makes paths whole where there is something at them.
    pub(super) fn locate(&mut self, places: &Places<'_>) {
        of_recipe(self, &mut |key, path| places.locate(key, path));
        // a name that is a folder nowhere is the hub's
        let checkpoint = &mut self.policy.checkpoint;
        let mut found = PathBuf::from(&*checkpoint);
        if checkpoint != crate::builtin::TINY {
            places.locate("policy.checkpoint", &mut found);
            if found.is_dir()
                && let Some(found) = found.to_str()
            {
                found.clone_into(checkpoint);
            }
        }
        self.folder = places.base.and_then(|base| std::path::absolute(base).ok());
    }

    /// Refuses a recipe that names a file which is not there.
    ///
    /// # Errors
    /// Names the first that is not, and where it was looked for.
    pub(crate) fn require_files(&self) -> anyhow::Result<()> {
        let mut missing = None;
        of_recipe(&mut self.clone(), &mut |key, path| {
            if key == PROMPT_STATS {
                return;
            }
            missing = missing.take().or_else(|| absence(key, path, self.folder.as_deref()));
        });
        match missing {
            Some(problem) => anyhow::bail!("recipe `{}`: {problem}", self.name()),
            None => Ok(()),
        }
    }
}

/// Makes the paths of `[data]` and `[rewards]` whole. One with nothing at it is meant in the first of the places.
pub(super) fn locate_parts(data: Option<&mut DataRecipe>, rewards: &mut RewardsRecipe, places: &Places<'_>) {
    let mut find = |key: &str, path: &mut PathBuf| {
        places.locate(key, path);
        if let Some(folder) = places.folders(key).first().filter(|_| !path.as_os_str().is_empty()) {
            *path = tidy(&folder.join(&*path));
        }
    };
    if let Some(data) = data {
        of_data("data", data, &mut find);
    }
    of_rewards(rewards, &mut find);
}

fn absence(key: &str, path: &Path, base: Option<&Path>) -> Option<String> {
    if path.as_os_str().is_empty() || is_there(path) {
        return None;
    }
    let here = std::env::current_dir().unwrap_or_default();
    let base = base.and_then(|base| std::path::absolute(base).ok()).filter(|base| *base != here);
    let (shown, here) = (path.display(), here.display());
    Some(match base {
        _ if path.is_absolute() => format!("{key} is `{shown}`, which does not exist"),
        Some(base) => format!(
            "{key} is `{shown}`, which is neither in the recipe's folder `{}` nor in the current one, `{here}`",
            base.display()
        ),
        None => format!("{key} is `{shown}`, which is not in the current folder, `{here}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_seen_from_the_recipe_and_one_of_the_command_line_from_the_current_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("Cargo.toml"), "").expect("writes");
        let here = std::env::current_dir().expect("a folder");
        let find = |base, sets: &[&str], path: &str| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            let mut path = PathBuf::from(path);
            Places { base, sets: &sets }.locate("data.jsonl.path", &mut path);
            path
        };
        // both have a Cargo.toml
        assert_eq!(find(Some(folder.path()), &[], "./Cargo.toml"), folder.path().join("Cargo.toml"));
        assert_eq!(find(Some(folder.path()), &["data.jsonl.path=x"], "Cargo.toml"), here.join("Cargo.toml"));
        assert_eq!(find(Some(folder.path()), &["data={}"], "Cargo.toml"), here.join("Cargo.toml"));
        assert_eq!(
            find(Some(folder.path()), &["data.jsonl.take=3"], "Cargo.toml"),
            folder.path().join("Cargo.toml")
        );
        assert_eq!(find(None, &[], "src"), here.join("src"));
        assert_eq!(find(Some(folder.path()), &[], "src"), here.join("src"), "only there");
        assert_eq!(find(Some(folder.path()), &[], "nowhere"), Path::new("nowhere"));
    }

    #[test]
    fn a_file_that_is_nowhere_is_named_with_the_places_looked_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = absence("data.jsonl.path", Path::new("rows.jsonl"), Some(folder.path())).expect("missing");
        let here = std::env::current_dir().expect("a folder");
        for wanted in [
            "data.jsonl.path",
            "`rows.jsonl`",
            &folder.path().display().to_string(),
            &here.display().to_string(),
        ] {
            assert!(text.contains(wanted), "{text}");
        }
        assert_eq!(absence("rewards.python.x.file", Path::new(""), None), None, "that is another mistake");
    }
}
