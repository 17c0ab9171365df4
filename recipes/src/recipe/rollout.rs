//! What a recipe says of where rollouts come from.
//!
//! Before and after: see [`super`].

use rollout::backend::BackendConfig;
use rollout::{Slots, Speculate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::numbers::Count;

/// `[rollout]`: where rollouts come from, and what sampling may use at a time. But for the backend nothing of it shows in a
/// rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutRecipe {
    /// `"local"`: this process. `{ vllm = { url = "http://…" } }` or `{ sglang = { … } }`: a server that is handed the
    /// weights.
    pub backend: BackendConfig,
    /// Rollouts sampled side by side.
    pub max_rows: Count,
    /// GiB for keys and values.
    pub kv_memory: f64,
    /// Prompt tokens read in one pass.
    pub prompt_tokens: Count,
    /// Guess tokens from what was written before: the same rollouts, faster where rows are few and texts repeat
    /// themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculate: Option<Speculate>,
}

impl Default for RolloutRecipe {
    fn default() -> Self {
        Self {
            backend: BackendConfig::Local,
            max_rows: Count(256),
            kv_memory: 4.0,
            prompt_tokens: Count(512),
            speculate: None,
        }
    }
}

impl RolloutRecipe {
    /// The same for the sampler.
    pub(crate) fn slots(&self) -> Slots {
        Slots {
            rows: self.max_rows.get(),
            memory: (self.kv_memory * (1u64 << 30) as f64) as usize,
            prompt_tokens: self.prompt_tokens.get(),
            speculate: self.speculate,
        }
    }

    pub(super) fn problem(&self) -> Option<String> {
        if !(self.kv_memory.is_finite() && self.kv_memory > 0.0) {
            return Some(format!("kv_memory is {}; wanted more than 0 GiB", self.kv_memory));
        }
        self.speculate.and_then(|s| s.problem()).or_else(|| self.backend.problem())
    }
}
