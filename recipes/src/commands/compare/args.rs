//! The arguments of `evenkeel compare`.

use std::path::PathBuf;

use clap::Args;

/// `evenkeel compare`
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Run folders, or folders of evaluations. The first is what the others are compared with; runs whose recipes differ in
    /// nothing but the seed are taken together.
    #[arg(required = true, num_args = 2.., value_name = "FOLDER")]
    pub(crate) folders: Vec<PathBuf>,
    /// The metric whose curves are shown.
    #[arg(long, default_value = "eval_accuracy")]
    pub(crate) metric: String,
    /// Compare although they were measured in different ways; the differences are named.
    #[arg(long)]
    pub(crate) force: bool,
    /// Write a page with the curves here.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
