//! Why a recipe was refused, in words for whoever wrote it.

/// Why a recipe was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Neither a file nor a built-in recipe.
    #[error("there is no recipe `{name}`: no such file, and the built-in ones are {known}{hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The built-in names.
        known: String,
        /// The nearest name, as a sentence.
        hint: String,
    },
    /// The file cannot be read.
    #[error("could not read recipe `{path}`: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The text is not a recipe.
    #[error("invalid recipe `{place}`: {message}{hint}")]
    Parse {
        /// The file or built-in name.
        place: String,
        /// Where and why.
        message: String,
        /// The nearest known key, as a sentence.
        hint: String,
    },
    /// A `--set` is not of the form `key.key=value`, or runs into something that is not a table.
    #[error("`--set {text}`: {problem}")]
    Set {
        /// What was given.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// Keys that do not fit each other.
    #[error("recipe `{name}`: {problem}")]
    Conflict {
        /// The recipe.
        name: String,
        /// What does not fit, and what would.
        problem: String,
    },
}
