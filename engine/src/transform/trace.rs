//! Momentum.

use serde::{Deserialize, Serialize};

use super::{Beta, Context, State, Transform};
use crate::kernels::each_with_mut;
use crate::model::Flat;

/// m ← β m + g, and m goes on; with Nesterov's look ahead, g + β m.
///
/// # Source
/// Polyak 1964; Nesterov's form as in Sutskever et al. 2013 and PyTorch's SGD.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Trace {
    /// Share of the momentum that an update keeps, β.
    pub momentum: Beta,
    /// Whether to look ahead.
    pub nesterov: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self { momentum: Beta::new(0.9), nesterov: false }
    }
}

impl Transform for Trace {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["m"]
    }

    fn apply(&self, grads: &mut Flat, state: &mut State, context: &Context<'_>) {
        state.next_step();
        let [m] = state.slots();
        let (beta, nesterov) = (f64::from(self.momentum) as f32, self.nesterov);
        for name in context.names {
            each_with_mut(grads.get_mut(name), m.get_mut(name), |g, m| {
                *m = beta * *m + *g;
                *g = if nesterov { *g + beta * *m } else { *m };
            });
        }
    }
}
