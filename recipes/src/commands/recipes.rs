//! `evenkeel recipes`: the built-in recipes, or one of them to start from.

use std::io::Write;

use anyhow::Result;
use clap::Args;

use super::wrap::{first_comment, wrapped};
use crate::builtin;

/// `evenkeel recipes`
#[derive(Debug, Args)]
pub(crate) struct RecipesArgs {
    /// Print this one, to start your own from.
    name: Option<String>,
}

/// Prints one recipe, or each with what its comment says first.
pub(crate) fn run(args: &RecipesArgs, out: &mut dyn Write) -> Result<()> {
    if let Some(name) = &args.name {
        let (_, text) = builtin::recipe_text(name)?;
        return Ok(write!(out, "{text}")?);
    }
    for (name, text) in builtin::recipes() {
        wrapped(&first_comment(text), &format!("{name:27}  "), 29, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_listed_with_whole_sentences() {
        let mut out = Vec::new();
        run(&RecipesArgs { name: None }, &mut out).expect("writes");
        let text = String::from_utf8(out).expect("text");
        let flowing = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for (name, recipe) in builtin::recipes() {
            assert!(flowing.contains(name.as_str()), "{name}");
            let comment = first_comment(recipe);
            assert!(comment.ends_with('.'), "{name}: {comment:?} is no sentence");
            assert!(flowing.contains(&comment.split_whitespace().collect::<Vec<_>>().join(" ")), "{comment}");
        }
    }
}
