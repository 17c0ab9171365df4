//! What really holds for a program in the sandbox, on this kernel and for this user.
//!
//! Before: [`crate::Sandbox`] tried it. After: people read it, and a sandbox without walls is refused.

use std::fmt;

/// Whether one thing is prevented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// It is, and by what.
    Enforced(String),
    /// It is not, and why.
    Missing(String),
}

impl Protection {
    /// Whether it is prevented.
    pub fn is_enforced(&self) -> bool {
        matches!(self, Self::Enforced(_))
    }
}

/// What a program in the sandbox is kept from. Shown as a list, one protection a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protections {
    /// From reading files that it does not need, and from writing outside of its scratch folder.
    pub file_system: Protection,
    /// From sockets of any kind.
    pub network: Protection,
    /// From signals to other processes.
    pub signals: Protection,
    /// From starting more processes than the settings allow, and from leaving the group that is killed at the end.
    pub processes: Protection,
    /// From taking more memory, processor time, open files or disk than the settings allow.
    pub resources: Protection,
    /// From having the rights of the user who runs Evenkeel, such as owning files.
    pub user: Protection,
}

impl Protections {
    /// All of them with their names.
    pub fn all(&self) -> [(&'static str, &Protection); 6] {
        [
            ("file system", &self.file_system),
            ("network", &self.network),
            ("signals", &self.signals),
            ("processes", &self.processes),
            ("resources", &self.resources),
            ("user", &self.user),
        ]
    }

    /// What is not prevented, with the reason, but for the user's rights: most run as themselves, and the others stand.
    pub fn missing(&self) -> Vec<String> {
        let missing = |(name, protection): (_, &Protection)| match protection {
            Protection::Missing(why) if name != "user" => Some(format!("{name}: not protected, {why}")),
            _ => None,
        };
        self.all().into_iter().filter_map(missing).collect()
    }

    /// Whether untrusted programs may be run: the file system, the network, signals and processes are shut.
    pub fn suffice(&self) -> bool {
        [&self.file_system, &self.network, &self.signals, &self.processes]
            .iter()
            .all(|held| held.is_enforced())
    }
}

impl fmt::Display for Protections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, protection)) in self.all().into_iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            match protection {
                Protection::Enforced(how) => write!(f, "{name}: enforced, {how}")?,
                Protection::Missing(why) => write!(f, "{name}: MISSING, {why}")?,
            }
        }
        Ok(())
    }
}
