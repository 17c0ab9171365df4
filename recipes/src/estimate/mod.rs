//! What a run takes of the machine, and what of that the machine has not.
//!
//! Before: [`Plan`]. After: `evenkeel check` prints it. Each estimate says what it rests on.

pub(crate) mod disk;
pub(crate) mod memory;
pub(crate) mod time;

use std::path::{Path, PathBuf};

use crate::plan::Plan;

/// How long completions are taken to be, in tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    pub(crate) mean: f64,
    pub(crate) longest: f64,
}

impl Lengths {
    /// Of completions of at most `most` tokens: half of that on average unless `mean` is said, and some of them all of it.
    pub(crate) fn of(most: usize, mean: Option<usize>) -> Self {
        let most = most as f64;
        Self { mean: mean.map_or(most / 2.0, |mean| (mean as f64).min(most)), longest: most }
    }
}

/// Bytes that a new process may have, where the system says so: what is free now, or what the control group leaves.
pub(crate) fn available_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable"))?;
    let free = line.split_whitespace().nth(1)?.parse::<usize>().ok()? << 10;
    Some(group_memory().map_or(free, |group| group.min(free)))
}

/// Bytes that the process's control groups leave.
fn group_memory() -> Option<usize> {
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut least: Option<usize> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, limit, used) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            c if c.split(',').any(|c| c == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        // a limit holds for all groups below it; within a container the root is its own
        let own = Path::new(root).join(path.trim_start_matches('/'));
        for folder in own.ancestors().take_while(|folder| folder.starts_with(root)) {
            if let (Some(limit), Some(used)) = (number(folder.join(limit)), number(folder.join(used))) {
                // what is only cached can be given back
                let cached = std::fs::read_to_string(folder.join("memory.stat")).ok().and_then(|text| {
                    let line = text.lines().find(|line| line.starts_with("inactive_file "))?;
                    line.split(' ').nth(1)?.parse::<usize>().ok()
                });
                let left = (limit + cached.unwrap_or(0)).saturating_sub(used);
                least = Some(least.map_or(left, |least| least.min(left)));
            }
        }
    }
    least
}

/// Bytes that are free where a folder is or would be made.
pub(crate) fn free_disk(folder: &Path) -> Option<usize> {
    let whole = std::path::absolute(folder).ok()?;
    let there = whole.ancestors().find(|place| place.exists())?;
    free_at(there)
}

#[cfg(unix)]
fn free_at(place: &Path) -> Option<usize> {
    let free = rustix::fs::statvfs(place).ok()?;
    usize::try_from(free.f_bavail.checked_mul(free.f_frsize)?).ok()
}

#[cfg(not(unix))]
fn free_at(_: &Path) -> Option<usize> {
    None
}

/// What the recipe asks for that its model, its data or this machine has not, a sentence each. `need` and `have` are bytes.
pub(crate) fn misfits(plan: &Plan, memory: usize, disk: usize, folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let gib = |bytes: usize| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    if let Some(have) = available_memory().filter(|have| *have < memory) {
        all.push(format!(
            "the run needs about {} of memory, and {} are available here: the system may stop it",
            gib(memory),
            gib(have)
        ));
    }
    if let Some(have) = free_disk(folder).filter(|have| *have < disk) {
        all.push(format!(
            "the run writes up to {}, and {} are free where `{}` is: make [save] keep less or more seldom, or name another folder by --out",
            gib(disk),
            gib(have),
            folder.display()
        ));
    }
    let (context, longest) = (plan.config.max_position_embeddings, plan.longest_prompt());
    let rl = plan.recipe.rl.as_ref().map(|rl| ("rl", rl.sampling.max_tokens));
    let preference = plan.recipe.preference.as_ref().map(|p| ("preference", p.sampling.max_tokens));
    for (stage, most) in rl.into_iter().chain(preference) {
        if longest + most > context {
            all.push(format!(
                "[{stage}.sampling] max_tokens is {most}, and the longest prompt has {longest} tokens: together more than the context of {context}, so completions of it end after {} tokens",
                context.saturating_sub(longest)
            ));
        }
    }
    let rows = plan.tasks.len();
    if let Some(rl) = &plan.recipe.rl
        && rl.prompts_per_step.get() > rows
    {
        let prompts = rl.prompts_per_step.get();
        all.push(match rl.dynamic_sampling {
            Some(_) => format!(
                "[rl] prompts_per_step is {prompts}, and the data has {rows} rows: with dynamic_sampling no prompt comes twice, so a step has at most {rows}"
            ),
            None => format!(
                "[rl] prompts_per_step is {prompts}, and the data has {rows} rows: each comes {:.1} times in a step",
                prompts as f64 / rows.max(1) as f64
            ),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_has() {
        if cfg!(target_os = "linux") {
            assert!(available_memory().is_some_and(|bytes| bytes > 1 << 20));
            assert!(crate::machine::resident() > 1 << 20);
        }
        if cfg!(unix) {
            // a folder that is not there yet lies where its nearest parent does
            let folder = tempfile::tempdir().expect("a folder");
            let free = free_disk(&folder.path().join("not/yet"));
            assert!(free.is_some() && free_disk(folder.path()).is_some());
        }
    }

    #[test]
    fn completions_are_half_as_long_as_they_may_be_unless_it_is_said() {
        assert_eq!(Lengths::of(400, None).mean, 200.0);
        assert_eq!(Lengths::of(400, Some(290)).mean, 290.0);
        assert_eq!(Lengths::of(100, Some(290)).mean, 100.0);
    }
}
