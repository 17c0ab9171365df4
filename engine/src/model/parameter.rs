//! What a parameter is in the network, which says how an optimizer treats it.

use serde::{Deserialize, Serialize};

/// The role of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    /// The weight of a linear layer between hidden states.
    Matrix,
    /// The embedding, which is the head too where they are tied.
    Embedding,
    /// The language-model head, where it has weights of its own.
    Head,
    /// The scale of a norm.
    Norm,
    /// A bias.
    Bias,
}

impl ParameterKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Matrix, Self::Embedding, Self::Head, Self::Norm, Self::Bias];

    /// That of the parameter with this name.
    pub fn of(name: &str) -> Self {
        match name {
            name if name.ends_with(".bias") => Self::Bias,
            name if name.ends_with("norm.weight") => Self::Norm,
            name if name.ends_with("embed_tokens.weight") => Self::Embedding,
            name if name.ends_with("lm_head.weight") => Self::Head,
            _ => Self::Matrix,
        }
    }

    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Matrix => "matrix",
            Self::Embedding => "embedding",
            Self::Head => "head",
            Self::Norm => "norm",
            Self::Bias => "bias",
        }
    }

    /// Whether weight decay is usual: norms and biases are exempt.
    pub fn decays(self) -> bool {
        !matches!(self, Self::Norm | Self::Bias)
    }
}
