//! `evenkeel schema`: the JSON Schema of a recipe, for editors.

use std::io::Write;

use anyhow::Result;

use crate::recipe::keys::schema;

/// Prints it.
pub(crate) fn run(out: &mut dyn Write) -> Result<()> {
    Ok(writeln!(out, "{}", serde_json::to_string_pretty(schema())?)?)
}
