//! What the binary carries: recipes, and the tiny checkpoint.

use std::path::Path;
use std::sync::OnceLock;

use engine::model::{Checkpoint, ModelError};

use crate::nearest::did_you_mean;
use crate::recipe::error::RecipeError;

/// Name and text of the built-in recipes that are files.
const FILES: &[(&str, &str)] = &[
    ("tiny", include_str!("../tiny.toml")),
    ("tiny-warmup", include_str!("../tiny-warmup.toml")),
    ("tiny-think", include_str!("../tiny-think.toml")),
    ("tiny-bvpo", include_str!("../tiny-bvpo.toml")),
    ("tiny-levels", include_str!("../tiny-levels.toml")),
    ("tiny-variance", include_str!("../tiny-variance.toml")),
    ("tiny-target", include_str!("../tiny-target.toml")),
    ("tiny-skip", include_str!("../tiny-skip.toml")),
    ("tiny-importance", include_str!("../tiny-importance.toml")),
    ("tiny-angle", include_str!("../tiny-angle.toml")),
    ("tiny-length", include_str!("../tiny-length.toml")),
    ("gsm8k-qwen2.5-0.5b", include_str!("../gsm8k-qwen2.5-0.5b.toml")),
    ("gsm8k-qwen2.5-0.5b-oblr", include_str!("../gsm8k-qwen2.5-0.5b-oblr.toml")),
    ("gsm8k-qwen2.5-0.5b-vas", include_str!("../gsm8k-qwen2.5-0.5b-vas.toml")),
    ("gsm8k-qwen2.5-0.5b-mopps", include_str!("../gsm8k-qwen2.5-0.5b-mopps.toml")),
    ("gsm8k-qwen2.5-0.5b-greso", include_str!("../gsm8k-qwen2.5-0.5b-greso.toml")),
    ("gsm8k-qwen2.5-0.5b-gain-rl", include_str!("../gsm8k-qwen2.5-0.5b-gain-rl.toml")),
    ("gsm8k-qwen2.5-0.5b-length", include_str!("../gsm8k-qwen2.5-0.5b-length.toml")),
    ("math-qwen3-0.6b-dapo", include_str!("../math-qwen3-0.6b-dapo.toml")),
    ("math-qwen3-4b-oblr", include_str!("../math-qwen3-4b-oblr.toml")),
    ("mbpp-qwen2.5-coder-0.5b", include_str!("../mbpp-qwen2.5-coder-0.5b.toml")),
];

/// Name and text of the built-in recipes that are files.
pub(crate) fn files() -> &'static [(&'static str, &'static str)] {
    FILES
}

/// The recipe that every preset is tried on, with its name and a learning rate in the places of braces.
const TINY_PRESET: &str = include_str!("../tiny-preset.toml");

/// Name and text of every built-in recipe: the files, and `tiny` by every preset.
pub(crate) fn recipes() -> &'static [(String, String)] {
    static RECIPES: OnceLock<Vec<(String, String)>> = OnceLock::new();
    RECIPES.get_or_init(|| {
        let files = FILES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let presets = crate::preset::PRESETS.iter().map(|(name, about, settings)| {
            // many updates a step move the weights as far as four do
            let learning_rate = format!("{:e}", 1.2e-3 / crate::preset::mini_batches(settings).max(4) as f64);
            let text = TINY_PRESET
                .replace("{preset}", name)
                .replace("{about}", about)
                .replace("{learning_rate}", &learning_rate);
            (format!("tiny-{}", name.replace('_', "-")), text)
        });
        files.chain(presets).collect()
    })
}

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

/// The weights of the embedded checkpoint, as bytes.
pub(crate) fn tiny_weights() -> &'static [u8] {
    TINY_FILES.iter().find(|(name, _)| *name == "model.safetensors").map_or(&[], |(_, bytes)| bytes)
}

/// A checkpoint by name or path. A folder called `tiny` is meant by `./tiny`.
pub(crate) fn checkpoint(name: &str, revision: Option<&str>) -> Result<Checkpoint, ModelError> {
    if name == TINY {
        return Ok(Checkpoint::embedded(TINY_FILES));
    }
    Checkpoint::open(name, revision).map_err(|error| match error {
        ModelError::NotFound { name, reason, hint } if hint.is_empty() => {
            let hint = did_you_mean(&name, [TINY].into_iter());
            ModelError::NotFound { name, reason, hint }
        }
        error => error,
    })
}

/// The name and the text of a recipe.
pub(crate) fn recipe_text(name: &str) -> Result<(String, String), RecipeError> {
    if let Some((name, text)) = recipes().iter().find(|(known, _)| known == name) {
        return Ok((name.clone(), text.clone()));
    }
    match std::fs::read_to_string(Path::new(name)) {
        Ok(text) => Ok((name.to_owned(), text)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            let known: Vec<&str> = recipes().iter().map(|(name, _)| name.as_str()).collect();
            let hint = did_you_mean(name, known.iter().copied());
            Err(RecipeError::Unknown { name: name.to_owned(), known: known.join(", "), hint })
        }
        Err(source) => Err(RecipeError::Read { path: name.to_owned(), source }),
    }
}
