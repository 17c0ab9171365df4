//! Checkpoints of the Hugging Face hub, kept in the cache folder that other programs share.
//!
//! Before: a name such as `Qwen/Qwen3-0.6B` in a recipe. After: [`super::checkpoint`] reads the folder.
//! The cache is asked first: what is complete there is used as it is, without a network. Environment variables are
//! those of `huggingface_hub`: `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_ENDPOINT`,
//! `HF_HUB_OFFLINE`.

use super::error::{ModelError, Result};
use super::foreign;
use super::weights::{INDEX_FILE, SINGLE_FILE, shard_names};
use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long the network may be silent before it is given up: no connection, or no byte, for this long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Without these, and the weights, a folder is no model.
const REQUIRED: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];
/// Taken where the repository has them.
const OPTIONAL: [&str; 3] = ["generation_config.json", "chat_template.jinja", "chat_template.json"];

/// Where models come from when they are not a folder.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Folder of the cache; has one subfolder per repository.
    pub cache: PathBuf,
    /// Base address of the hub, without a slash at the end.
    pub endpoint: String,
    /// Access token for gated and private repositories.
    pub token: Option<String>,
    /// Whether the network is switched off.
    pub offline: bool,
    /// How long the network may be silent, 30 s by default; noticed after at most twice this.
    pub timeout: Duration,
}

impl Hub {
    /// The hub as the environment describes it.
    ///
    /// # Errors
    /// If there is no home folder to keep the cache in and none is named by `HF_HOME` or `HF_HUB_CACHE`.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(
            |name| std::env::var(name).ok().filter(|value| !value.is_empty()),
            std::env::home_dir(),
        )
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>, user: Option<PathBuf>) -> Result<Self> {
        let home = match (variable("HF_HOME"), user) {
            (Some(home), _) => Some(PathBuf::from(home)),
            (None, Some(user)) => Some(user.join(".cache").join("huggingface")),
            (None, None) => None,
        };
        let cache = variable("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join("hub")));
        let cache = cache.ok_or(ModelError::NoCache)?;
        let token_file = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home?.join("token")));
        let token = variable("HF_TOKEN").or_else(|| std::fs::read_to_string(token_file?).ok());
        let is_true =
            |value: String| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        Ok(Self {
            cache,
            endpoint: variable("HF_ENDPOINT").map_or_else(
                || "https://huggingface.co".to_string(),
                |url| url.trim_end_matches('/').to_string(),
            ),
            token: token.map(|token| token.trim().to_string()).filter(|token| !token.is_empty()),
            offline: variable("HF_HUB_OFFLINE").is_some_and(is_true),
            timeout: TIMEOUT,
        })
    }

    /// A folder with a complete checkpoint of `repo` (`organisation/name`) at `revision`, a branch, tag or commit.
    ///
    /// A complete copy in the cache is used without asking whether the branch has moved on; name a commit, or empty
    /// the cache, for another. Otherwise the files are fetched, all of one commit, the weights last, and an
    /// interrupted download goes on where it stopped. Progress bars are drawn on a terminal only.
    ///
    /// # Errors
    /// If the files are not in the cache and the hub is switched off, silent for [`Self::timeout`], or refuses; or if
    /// the repository lacks a file that a model needs.
    pub fn fetch(&self, repo: &str, revision: &str) -> Result<PathBuf> {
        if let Some(dir) = self.cached(repo, revision)? {
            return Ok(dir);
        }
        let failed = |reason: String| ModelError::Hub {
            repo: repo.to_string(),
            revision: revision.to_string(),
            cache: self.cache.clone(),
            reason,
        };
        if self.offline {
            return Err(failed("HF_HUB_OFFLINE forbids asking the hub".to_string()));
        }
        let explain = |what: &str, error: &str| failed(format!("{} gave no {what}: {error}", self.endpoint));

        let model =
            |revision: &str| Repo::with_revision(repo.to_string(), RepoType::Model, revision.to_string());
        let asked = self.watch(model(revision), |api, _| {
            let info = api.info().map_err(describe)?;
            Ok((info.sha, info.siblings.into_iter().map(|file| file.rfilename).collect::<BTreeSet<_>>()))
        });
        let (commit, files) = asked.map_err(|error| explain("list of files", &error))?;
        if commit.len() != 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(explain("commit", &format!("{commit:?} is not one")));
        }
        let incomplete = |missing: String| ModelError::HubIncomplete {
            repo: repo.to_string(),
            revision: revision.to_string(),
            missing,
            hint: foreign::repository(&files),
        };
        let get = |file: &str| {
            let name = file.to_string();
            self.watch(model(&commit), move |api, heard| download(api, &name, heard))
                .map_err(|error| explain(&format!("`{file}`"), &error))
        };

        if let Some(missing) = REQUIRED.into_iter().find(|file| !files.contains(*file)) {
            return Err(incomplete(format!("`{missing}`")));
        }
        let small = REQUIRED.into_iter().chain(OPTIONAL).filter(|file| files.contains(*file));
        for file in small {
            get(file)?;
        }
        if files.contains(SINGLE_FILE) {
            get(SINGLE_FILE)?;
        } else if files.contains(INDEX_FILE) {
            let index = get(INDEX_FILE)?;
            for shard in shards(&index)? {
                if !files.contains(&shard) {
                    return Err(incomplete(format!("`{shard}`, which its index names")));
                }
                get(&shard)?;
            }
        } else {
            return Err(incomplete(format!("`{SINGLE_FILE}` or `{INDEX_FILE}`")));
        }
        // Only now may the branch's name lead here: a half-fetched commit must not hide an older whole one.
        let cache = Cache::new(self.cache.clone());
        cache.repo(model(revision)).create_ref(&commit).map_err(ModelError::io("write", &self.cache))?;
        self.cached(repo, revision)?.ok_or_else(|| failed("what was fetched is not there".to_string()))
    }

    /// One file of a dataset repository, from the cache or else from the network.
    ///
    /// # Errors
    /// If it is in neither, or the network is switched off or silent for too long.
    pub fn dataset_file(&self, dataset: &str, revision: &str, file: &str) -> Result<PathBuf> {
        let repo = Repo::with_revision(dataset.to_string(), RepoType::Dataset, revision.to_string());
        if let Some(path) = Cache::new(self.cache.clone()).repo(repo.clone()).get(file) {
            return Ok(path);
        }
        let failed = |reason: String| ModelError::Hub {
            repo: format!("datasets/{dataset}"),
            revision: revision.to_string(),
            cache: self.cache.clone(),
            reason,
        };
        if self.offline {
            return Err(failed("HF_HUB_OFFLINE forbids asking the hub".to_string()));
        }
        let name = file.to_string();
        self.watch(repo, move |api, heard| download(api, &name, heard))
            .map_err(|error| failed(format!("{} gave no `{file}`: {error}", self.endpoint)))
    }

    /// The snapshot of a revision in the cache, if it is complete.
    fn cached(&self, repo: &str, revision: &str) -> Result<Option<PathBuf>> {
        let folder = self.cache.join(format!("models--{}", repo.replace('/', "--")));
        let commit = match std::fs::read_to_string(folder.join("refs").join(revision)) {
            Ok(commit) => commit.trim().to_string(),
            Err(_) => revision.to_string(), // a commit has no reference to it
        };
        let dir = folder.join("snapshots").join(commit);
        if !REQUIRED.iter().all(|file| dir.join(file).is_file()) {
            return Ok(None);
        }
        let index = dir.join(INDEX_FILE);
        let complete = dir.join(SINGLE_FILE).is_file()
            || (index.is_file() && shards(&index)?.iter().all(|shard| dir.join(shard).is_file()));
        Ok(complete.then_some(dir))
    }

    /// Does one thing with the hub in a thread of its own, and gives up when nothing is heard of it for too long.
    ///
    /// The client has no timeouts, so a thread that is given up stays blocked until its connection ends.
    fn watch<T: Send + 'static>(
        &self,
        repo: Repo,
        work: impl FnOnce(&ApiRepo, &Heard) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(false)
            .build()
            .map_err(describe)?
            .repo(repo);
        let heard = Heard::default();
        let (sender, receiver) = mpsc::channel();
        let theirs = heard.clone();
        std::thread::Builder::new()
            .name("hub".to_string())
            .spawn(move || sender.send(work(&api, &theirs)))
            .map_err(|error| format!("no thread for it: {error}"))?;
        let mut before = 0;
        loop {
            match receiver.recv_timeout(self.timeout) {
                Ok(result) => return result,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err("the client stopped unexpectedly".to_string());
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let now = heard.0.load(Ordering::Relaxed);
                    if now == before {
                        return Err(format!("nothing was heard for {:?}", self.timeout));
                    }
                    before = now;
                }
            }
        }
    }
}

/// How many times bytes have arrived.
#[derive(Clone, Default)]
struct Heard(Arc<AtomicU64>);

/// Fetches one file into the cache, and checks that all of it came.
fn download(api: &ApiRepo, file: &str, heard: &Heard) -> Result<PathBuf, String> {
    let size = Arc::new(AtomicU64::new(0));
    let bar = std::io::stderr().is_terminal().then(|| {
        let style =
            ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let meter = Meter { heard: heard.clone(), size: size.clone(), bar };
    let path = api.download_with_progress(file, meter).map_err(describe)?;
    let (found, expected) =
        (std::fs::metadata(&path).map_err(|error| error.to_string())?.len(), size.load(Ordering::Relaxed));
    if found != expected {
        // The link leads to the damaged bytes; both must go, or the next call would take them for whole.
        if let Ok(bytes) = path.canonicalize() {
            std::fs::remove_file(bytes).map_err(|error| error.to_string())?;
        }
        std::fs::remove_file(&path).or_else(ignore_missing).map_err(|error| error.to_string())?;
        return Err(format!("{found} bytes came instead of {expected}; what came was thrown away"));
    }
    Ok(path)
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Tells the watching thread that bytes arrive, and the user how many.
struct Meter {
    heard: Heard,
    size: Arc<AtomicU64>,
    bar: Option<ProgressBar>,
}

impl Progress for Meter {
    fn init(&mut self, size: usize, file: &str) {
        self.heard.0.fetch_add(1, Ordering::Relaxed);
        self.size.store(size as u64, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_length(size as u64);
            // an index that was downloaded names the files
            bar.set_message(data::printable(file).into_owned());
        }
    }

    fn update(&mut self, size: usize) {
        self.heard.0.fetch_add(1, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(size as u64);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(index).map_err(ModelError::io("read", index))?;
    shard_names(&index.display().to_string(), &text)
}

/// The client's reason, and what to do about the common ones.
fn describe(error: ApiError) -> String {
    let text = error.to_string();
    let advice = if text.contains("401") || text.contains("403") {
        "; the repository may be misspelt, private or gated: set HF_TOKEN to a token that may read it"
    } else if text.contains("404") {
        "; there is no such repository or revision"
    } else {
        ""
    };
    format!("{text}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)], user: Option<&str>) -> Result<Hub> {
        let find =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string());
        Hub::from_variables(find, user.map(PathBuf::from))
    }

    #[test]
    fn the_cache_is_where_hugging_face_keeps_it() {
        let cache = |variables: &[(&str, &str)]| from(variables, Some("/home/me")).unwrap().cache;
        assert_eq!(cache(&[]), Path::new("/home/me/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "/big")]), Path::new("/big/hub"));
        assert_eq!(cache(&[("HF_HOME", "/big"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(from(&[("HF_HUB_CACHE", "/c")], None).unwrap().cache, Path::new("/c"));
        assert!(from(&[], None).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn the_environment_switches_the_network_off_and_names_token_and_endpoint() {
        assert!(!from(&[("HF_HUB_OFFLINE", "0")], Some("/none")).unwrap().offline);
        assert!(from(&[("HF_HUB_OFFLINE", "1")], Some("/none")).unwrap().offline);
        assert!(from(&[("HF_HUB_OFFLINE", "true")], Some("/none")).unwrap().offline);
        let hub = from(&[("HF_TOKEN", " abc\n"), ("HF_ENDPOINT", "http://mirror/")], Some("/none")).unwrap();
        assert_eq!((hub.token.as_deref(), hub.endpoint.as_str()), (Some("abc"), "http://mirror"));
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "saved\n").unwrap();
        let hub = from(&[("HF_HOME", home.path().to_str().unwrap())], None).unwrap();
        assert_eq!((hub.token.as_deref(), hub.timeout), (Some("saved"), TIMEOUT));
    }

    #[test]
    fn a_file_of_a_dataset_is_taken_from_the_cache_and_not_asked_for_offline() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("datasets--org--sums");
        std::fs::create_dir_all(folder.join("refs")).unwrap();
        std::fs::write(folder.join("refs/main"), "abc").unwrap();
        std::fs::create_dir_all(folder.join("snapshots/abc/data")).unwrap();
        std::fs::write(folder.join("snapshots/abc/data/test.jsonl"), "{}").unwrap();
        let cached = cache.path().display().to_string();
        let hub = from(&[("HF_HUB_CACHE", &cached), ("HF_HUB_OFFLINE", "1")], Some("/none")).unwrap();
        let file = hub.dataset_file("org/sums", "main", "data/test.jsonl").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "{}");
        let error = hub.dataset_file("org/sums", "main", "other.jsonl").unwrap_err().to_string();
        assert!(error.contains("datasets/org/sums") && error.contains("HF_HUB_OFFLINE"), "{error}");
    }
}
