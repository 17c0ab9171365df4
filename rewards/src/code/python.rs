//! Which Python runs the programs.
//!
//! Before: the recipe names an interpreter. After: its file and what it needs to read are known. Names may lead to a
//! script that picks a version, so the interpreter itself is asked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An interpreter.
#[derive(Debug, Clone)]
pub(super) struct Python {
    pub(super) program: PathBuf,
    /// Its library, and that of the environment it belongs to.
    pub(super) read: Vec<PathBuf>,
    /// Where packages are installed for it.
    packages: Vec<PathBuf>,
}

impl Python {
    /// Asks the interpreter of that name or path.
    ///
    /// # Errors
    /// If it is not there, does not answer, or is older than 3.8.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        const ASK: &str = "import os, site, sys\n\
                           assert sys.version_info >= (3, 8), sys.version\n\
                           print(sys.executable, os.path.realpath(sys.executable), sys.prefix, sys.base_prefix, \
                           *site.getsitepackages(), sep='\\n')";
        let asked = Command::new(name).args(["-I", "-c", ASK]).stdin(Stdio::null()).output();
        let answer = asked.map_err(|error| format!("the Python interpreter `{name}`: {error}"))?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let paths: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
        match paths.as_slice() {
            [program, file, prefix, base, packages @ ..] if answer.status.success() => Ok(Self {
                program: program.clone(),
                // The file may lie outside of its library, and then it alone is added.
                read: vec![prefix.clone(), base.clone(), file.clone()],
                packages: packages.to_vec(),
            }),
            _ => {
                let said = String::from_utf8_lossy(&answer.stderr);
                Err(format!("`{name}` is no Python that is new enough, wanted 3.8 or later: {}", said.trim()))
            }
        }
    }

    /// That programs can read packages, of which one may hold the answers to their tests. What the distribution or the
    /// interpreter itself brings along is not meant.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.packages.iter().filter_map(|folder| packages_in(folder)).collect()
    }
}

fn packages_in(folder: &Path) -> Option<String> {
    /// Installers, and what the distribution has in a folder of its own.
    const COMMON: &[&str] =
        &["pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "__pycache__"];
    const DISTRIBUTION: &str = "/usr/lib/python3/dist-packages";
    if folder == Path::new(DISTRIBUTION) {
        return None;
    }
    let names = std::fs::read_dir(folder).ok()?.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let module = name.strip_suffix(".py").filter(|module| !module.starts_with('_'));
        let package = entry.path().is_dir() && !name.contains('.');
        let name = if package { Some(name.as_str()) } else { module }?;
        (!COMMON.contains(&name)).then(|| name.to_owned())
    });
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    let more = if names.len() > 6 { ", …" } else { "" };
    names.truncate(6);
    (!names.is_empty()).then(|| {
        format!(
            "programs can read the packages in `{}`: {}{more}; whoever finds the answers to the tests there need not work \
             them out. `python` can name an interpreter with no more than they need",
            folder.display(),
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn packages_beside_the_installers_are_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pip", "setuptools", "pip-24.0.dist-info", "__pycache__"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("_virtualenv.py"), "").unwrap();
        fs::write(folder.path().join("a.pth"), "").unwrap();
        assert_eq!(packages_in(folder.path()), None);
        assert_eq!(packages_in(&folder.path().join("none")), None);
        fs::create_dir(folder.path().join("human_eval")).unwrap();
        fs::write(folder.path().join("six.py"), "").unwrap();
        let said = packages_in(folder.path()).unwrap();
        assert!(said.contains("packages in `") && said.contains("`: human_eval, six; "), "{said}");
    }
}
