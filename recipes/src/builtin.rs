//! What the binary carries: recipes, and the tiny checkpoint.

use std::path::Path;

use engine::model::Checkpoint;

use crate::recipe::{RecipeError, did_you_mean};

/// Name and text of every built-in recipe.
pub(crate) const RECIPES: &[(&str, &str)] = &[
    ("tiny", include_str!("../tiny.toml")),
    ("tiny-warmup", include_str!("../tiny-warmup.toml")),
    ("gsm8k-qwen2.5-0.5b", include_str!("../gsm8k-qwen2.5-0.5b.toml")),
];

/// The name by which recipes mean the embedded checkpoint.
pub(crate) const TINY: &str = "tiny";

/// A Qwen3 of a million parameters with a byte tokenizer, made by the recipe `tiny-warmup`.
const TINY_FILES: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../tiny/config.json")),
    ("generation_config.json", include_bytes!("../tiny/generation_config.json")),
    ("tokenizer.json", include_bytes!("../tiny/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../tiny/tokenizer_config.json")),
    ("model.safetensors", include_bytes!("../tiny/model.safetensors")),
];

/// A checkpoint by name or path. A folder called `tiny` is meant by `./tiny`.
pub(crate) fn checkpoint(
    name: &str,
    revision: Option<&str>,
) -> Result<Checkpoint, engine::model::ModelError> {
    if name == TINY { Ok(Checkpoint::embedded(TINY_FILES)) } else { Checkpoint::open(name, revision) }
}

/// What a recipe is called, and its text.
pub(crate) fn recipe_text(name: &str) -> Result<(String, String), RecipeError> {
    if let Some((name, text)) = RECIPES.iter().find(|(known, _)| *known == name) {
        return Ok(((*name).to_owned(), (*text).to_owned()));
    }
    match std::fs::read_to_string(Path::new(name)) {
        Ok(text) => Ok((name.to_owned(), text)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            let known: Vec<&str> = RECIPES.iter().map(|(name, _)| *name).collect();
            let hint = did_you_mean(name, known.iter().copied());
            Err(RecipeError::Unknown { name: name.to_owned(), known: known.join(", "), hint })
        }
        Err(source) => Err(RecipeError::Read { path: name.to_owned(), source }),
    }
}
