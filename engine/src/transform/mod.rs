//! Gradients become a change of the weights, in a chain of small steps.
//!
//! Before: [`crate::gradient`] summed the gradients of a mini-batch. After: [`crate::optimizer`] adds the change to the
//! weights. A transform works in place on numbers that lie in one line and is itself constant; what must outlive a step is its
//! [`State`]. The division into parts follows optax: transforms that scale by statistics, a chain of them, and kinds of
//! parameters that a transform is for.

mod chain;
mod clip;
mod config;
mod decay;
mod learning_rate;
mod orthogonalize;
mod scale_by_adam;
mod scale_by_lion;
mod state;
mod trace;

pub use chain::{Chain, Link};
pub use clip::ClipByGlobalNorm;
pub use config::{AdamW, Beta, Lion, Muon, OptimizerConfig, Sgd, TransformConfig};
pub use decay::AddDecayedWeights;
pub use learning_rate::{ScaleByFactor, ScaleByLearningRate};
pub use orthogonalize::Orthogonalize;
pub use scale_by_adam::ScaleByAdam;
pub use scale_by_lion::ScaleByLion;
pub use state::State;
pub use trace::Trace;

use crate::model::Flat;

/// What a transform may know beside the gradients.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The weights before the update.
    pub weights: &'a Flat,
    /// The parameters that it works on; it leaves the gradients of others as they are.
    pub names: &'a [&'a str],
    /// The learning rate of this update.
    pub learning_rate: f64,
}

/// One step from gradients to a change of the weights.
///
/// ```
/// use engine::model::Flat;
/// use engine::transform::{Context, State, Transform};
///
/// /// The sign of every gradient (Bernstein et al., arXiv:1802.04434).
/// struct Sign;
///
/// impl Transform for Sign {
///     fn name(&self) -> &'static str {
///         "sign"
///     }
///
///     fn apply(&self, grads: &mut Flat, _: &mut State, context: &Context<'_>) {
///         for name in context.names {
///             grads.get_mut(name).iter_mut().for_each(|g| *g = g.signum());
///         }
///     }
/// }
/// ```
pub trait Transform: Send + Sync {
    /// Its name in recipes and in saved states.
    fn name(&self) -> &'static str;

    /// Names of the numbers that it keeps of every weight, such as a moment. All are 0 at the start.
    fn slots(&self) -> &'static [&'static str] {
        &[]
    }

    /// Turns gradients into what the next transform takes. Whatever must outlive the call goes into `state`, which has room
    /// for [`Self::slots`] of the parameters in `context`.
    fn apply(&self, grads: &mut Flat, state: &mut State, context: &Context<'_>);
}
