//! Comparisons of what was measured in different ways.

use anyhow::Result;
use eval::Comparison;

use crate::usage::Usage;

/// Refuses what was measured in different ways, unless someone insists.
pub(super) fn check_protocols(comparison: &Comparison, force: bool) -> Result<()> {
    if force || comparison.differences.is_empty() {
        return Ok(());
    }
    Err(Usage::error(format!(
        "`{}` and `{}` were not measured in the same way on {}: {}; pass --force to compare them all the same",
        comparison.a,
        comparison.b,
        comparison.benchmark,
        comparison.differences.join("; ")
    )))
}
