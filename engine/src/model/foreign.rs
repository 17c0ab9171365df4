//! Files and folders that are something other than they are taken for, named for what they are.
//!
//! Before: a file that would not parse, or a folder that lacks a file. After: the reason in an error of
//! [`super::checkpoint`] or [`super::weights`].

use super::error::{ModelError, Result};
use serde::de::DeserializeOwned;
use std::path::Path;

/// What these first bytes of a file say that it is, if that is something known and of no use here.
pub(crate) fn kind(begin: &[u8]) -> Option<&'static str> {
    let text = begin.trim_ascii_start();
    let is_html = |tag: &[u8]| text.len() >= tag.len() && text[..tag.len()].eq_ignore_ascii_case(tag);
    Some(match begin {
        [] => "it is empty",
        _ if text.is_empty() => "it holds nothing but spaces",
        _ if begin.starts_with(b"version https://git-lfs") => {
            "it is a pointer of Git LFS, not the file itself: run `git lfs pull` in the repository"
        }
        _ if begin.starts_with(b"GGUF") => {
            "it is a GGUF file of llama.cpp; wanted the checkpoint it was made from, in safetensors"
        }
        _ if begin.starts_with(b"PK\x03\x04") || matches!(begin, [0x80, 2..=5, ..]) => {
            "it is a pickle of PyTorch, which can run code and is not read; save the model with `safe_serialization=True`"
        }
        _ if begin.starts_with(b"\x89HDF") => "it is an HDF5 file; wanted safetensors",
        _ if is_html(b"<!doctype html") || is_html(b"<html") => {
            "it is a web page, such as an error or a login page that was saved in its place"
        }
        _ if begin.iter().all(|byte| *byte == 0) => "it holds nothing but zeros",
        _ => return None,
    })
}

/// What [`kind`] says of a file that begins so, for a message: empty or "; it is …".
pub(crate) fn hint(begin: &[u8]) -> String {
    kind(&begin[..begin.len().min(512)]).map_or_else(String::new, |kind| format!("; {kind}"))
}

/// A JSON file, which may begin with a byte-order mark.
///
/// # Errors
/// If it is not the JSON that it should be; with what it is instead, where that is known.
pub(crate) fn json<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(text).map_err(|source| ModelError::Json {
        file: file.to_string(),
        source,
        hint: hint(text),
    })
}

/// What a folder holds in place of `missing` (a file, or "weights"), if that is something known: "; it holds …".
pub(crate) fn folder(dir: &Path, missing: &str) -> String {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let has = |name: &str| names.iter().any(|found| found == name);
    let ending = |endings: &[&str]| {
        names.iter().find(|name| endings.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending)))
    };
    let told = |name: &str| kind(&begin(&dir.join(name))).map(|kind| format!("; of `{name}`, {kind}"));
    if has("adapter_config.json") {
        return format!("; it holds {}", adapter(dir));
    }
    if let Some(pointer) = ending(&[".safetensors"]).and_then(|name| told(name)) {
        return pointer;
    }
    if let Some(name) = ending(&[".gguf"]) {
        return format!(
            "; it holds `{name}`, a GGUF file of llama.cpp; wanted the checkpoint it was made from, in safetensors"
        );
    }
    if let Some(name) = ending(&[".bin", ".pt", ".pth", ".ckpt"]).filter(|_| missing == "weights") {
        return format!(
            "; it holds `{name}`, a pickle of PyTorch, which can run code and is not read: load it in Python by \
             `AutoModelForCausalLM.from_pretrained` and save it by `save_pretrained(FOLDER, safe_serialization=True)`"
        );
    }
    if let Some(name) = ending(&[".h5", ".msgpack", ".onnx", ".npz"]).filter(|_| missing == "weights") {
        return format!("; it holds `{name}`, of another format; wanted safetensors");
    }
    if let Some(name) = ending(&[".safetensors"]).filter(|_| missing == "weights") {
        return format!("; it holds `{name}`, which neither is called so nor is named by an index");
    }
    if dir.join("checkpoints").is_dir() && (has("recipe.toml") || has("plan.json")) {
        return format!("; it is a run, whose checkpoints are in `{}`", dir.join("checkpoints").display());
    }
    if names.is_empty() {
        return "; the folder is empty".to_string();
    }
    String::new()
}

/// What a repository of the hub holds in place of a model, by the names of its files: "; it holds …".
pub(crate) fn repository<'a>(files: impl IntoIterator<Item = &'a String> + Clone) -> String {
    let has = |matches: &dyn Fn(&str) -> bool| files.clone().into_iter().find(|name| matches(name));
    if has(&|name| name == "adapter_config.json").is_some() {
        return "; it holds an adapter, not a whole model: merge it into its base model in Python by \
                `AutoPeftModelForCausalLM.from_pretrained(…).merge_and_unload().save_pretrained(FOLDER)`"
            .to_string();
    }
    if let Some(name) = has(&|name| name.to_ascii_lowercase().ends_with(".gguf")) {
        return format!("; it holds `{name}`, a GGUF file of llama.cpp: name the model it was made from");
    }
    if let Some(name) = has(&|name| [".bin", ".pt", ".pth"].iter().any(|ending| name.ends_with(ending))) {
        return format!("; it holds `{name}`, a pickle of PyTorch, which can run code and is not read");
    }
    String::new()
}

/// An adapter, and what makes a model of it.
fn adapter(dir: &Path) -> String {
    let config = std::fs::read(dir.join("adapter_config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    let text = |key: &str| config.get(key).and_then(serde_json::Value::as_str);
    let kind = text("peft_type").unwrap_or("PEFT");
    let base = text("base_model_name_or_path").map_or(String::new(), |base| format!(" of `{base}`"));
    format!(
        "an adapter ({kind}{base}), not a whole model: merge it in Python by \
         `AutoPeftModelForCausalLM.from_pretrained(\"{}\").merge_and_unload().save_pretrained(FOLDER)` and save the \
         tokenizer into the same FOLDER",
        dir.display()
    )
}

/// The first bytes of a file; none if it cannot be read.
fn begin(path: &Path) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // a message may do without
        let _ = file.take(512).read_to_end(&mut bytes);
    }
    bytes
}

/// [`hint`] of a file.
pub(crate) fn file(path: &Path) -> String {
    hint(&begin(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        for (bytes, part) in [
            (&b""[..], "empty"),
            (b" \n ", "spaces"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"PK\x03\x04archive/data.pkl", "pickle"),
            (b"\x80\x02}q\0", "pickle"),
            (b"\n<!DOCTYPE html>\n<html>", "web page"),
            (b"<HTML lang=\"en\">", "web page"),
            (b"\0\0\0\0\0\0\0\0\0", "zeros"),
        ] {
            assert!(kind(bytes).is_some_and(|kind| kind.contains(part)), "{part}");
        }
        for bytes in [&b"{\"a\": 1}"[..], b"\x10\0\0\0\0\0\0\0{}", b"<tag>", b"\x80\x09"] {
            assert_eq!(kind(bytes), None);
        }
    }

    #[test]
    fn a_repository_is_known_by_the_names_of_its_files() {
        let said =
            |names: &[&str]| repository(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert!(said(&["README.md", "adapter_config.json", "adapter_model.bin"]).contains("an adapter"));
        assert!(said(&["x-Q4.GGUF"]).contains("`x-Q4.GGUF`"));
        assert!(said(&["config.json", "pytorch_model.bin"]).contains("pickle"));
        assert_eq!(said(&["README.md"]), "");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_json() {
        let value: serde_json::Value = json("x.json", b"\xef\xbb\xbf{\"a\": 1}").unwrap();
        assert_eq!(value["a"], 1);
        let error = json::<serde_json::Value>("x.json", b"<html>Not found</html>").unwrap_err().to_string();
        assert!(error.contains("`x.json`") && error.contains("web page"), "{error}");
    }
}
