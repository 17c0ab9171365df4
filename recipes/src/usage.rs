//! Mistakes of the caller: exit code 2.

use crate::recipe::error::RecipeError;

/// A mistake of the caller: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(String);

impl Usage {
    /// A mistake that is described by this text.
    pub(crate) fn error(text: impl Into<String>) -> anyhow::Error {
        Self(text.into()).into()
    }
}

/// True of an error that the caller has to mend: a mistake in the command line or the recipe.
pub(crate) fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Usage>() || cause.is::<RecipeError>())
}
