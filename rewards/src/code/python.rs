//! Which Python runs the programs.
//!
//! Before: the recipe names an interpreter. After: its file and what it needs to read are known. Names may lead to a
//! script that picks a version, so the interpreter itself is asked.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// An interpreter.
#[derive(Debug, Clone)]
pub(super) struct Python {
    pub(super) program: PathBuf,
    /// Its library, and that of the environment it belongs to.
    pub(super) read: Vec<PathBuf>,
}

impl Python {
    /// Asks the interpreter of that name or path.
    ///
    /// # Errors
    /// If it is not there, does not answer, or is older than 3.8.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        const ASK: &str = "import os, sys\n\
                           assert sys.version_info >= (3, 8), sys.version\n\
                           print(sys.executable, os.path.realpath(sys.executable), sys.prefix, sys.base_prefix, sep='\\n')";
        let asked = Command::new(name).args(["-I", "-c", ASK]).stdin(Stdio::null()).output();
        let answer = asked.map_err(|error| format!("the Python interpreter `{name}`: {error}"))?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let paths: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
        match paths.as_slice() {
            [program, file, prefixes @ ..] if answer.status.success() && prefixes.len() == 2 => {
                // The file may lie outside of its library, and then it alone is added.
                let read = prefixes.iter().chain([file]).cloned().collect();
                Ok(Self { program: program.clone(), read })
            }
            _ => {
                let said = String::from_utf8_lossy(&answer.stderr);
                Err(format!("`{name}` is no Python that is new enough, wanted 3.8 or later: {}", said.trim()))
            }
        }
    }
}
