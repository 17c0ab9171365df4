//! Which files a program in the sandbox may open.
//!
//! Before: the settings name what it needs. After: [`super::child`] puts the ruleset on. The newest rules of Landlock
//! are asked for, and what the kernel does not know of is left out; [`super::probe`] finds out what holds.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};

/// What programs need of any Linux: libraries, tools, the list of libraries. Those that are not there are left out.
pub(super) const SYSTEM: &[&str] = &["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"];
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];
const NEWEST: ABI = ABI::V9;

/// Read `read` and the system, nothing else; no TCP; no signals or abstract sockets to the outside.
pub(super) fn ruleset(read: &[PathBuf]) -> Result<RulesetCreated, String> {
    rules(read).map_err(|error| error.to_string())
}

/// Write this folder too.
pub(super) fn with_scratch(rules: RulesetCreated, scratch: &Path) -> Result<RulesetCreated, String> {
    let scratch = PathFd::new(scratch).map_err(|error| error.to_string())?;
    let rule = PathBeneath::new(scratch, AccessFs::from_all(NEWEST));
    rules.add_rule(rule).map_err(|error| error.to_string())
}

/// The rights of [`with_scratch`] on a kernel that knows as much, as it reads them.
pub(super) fn scratch_rights(known: ABI) -> u64 {
    (AccessFs::from_all(NEWEST) & AccessFs::from_all(known)).bits()
}

fn rules(read: &[PathBuf]) -> Result<RulesetCreated, RulesetError> {
    // The rights of a file system that its first version knows, those to run programs included.
    let look = AccessFs::from_read(NEWEST);
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let all = AccessFs::from_all(NEWEST);
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, look))?
        .add_rules(path_beneath_rules(read, look))?
        .add_rules(path_beneath_rules(DEVICES, device))
}

/// Whether root's other users can reach all of these, as far as modes tell.
pub(super) fn open_to_all<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<(), PathBuf> {
    use std::os::unix::fs::MetadataExt;
    for path in paths {
        for (depth, place) in path.ancestors().enumerate() {
            let Ok(found) = place.metadata() else { continue };
            let needed = match (depth, found.is_dir()) {
                (0, true) => 0o5,
                (0, false) => 0o4,
                _ => 0o1,
            };
            if found.mode() & needed != needed {
                return Err(place.to_owned());
            }
        }
    }
    Ok(())
}
