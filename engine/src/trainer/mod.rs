//! One step: scored rollouts in, a better policy out.
//!
//! Before: [`data::ScoredRollout`] from the rewards. After: [`crate::metrics`]. The trainer knows no algorithm by
//! name; which baseline, objective and optimizer it uses are values in [`TrainerConfig`].
//!
//! A mini-batch is cut into chunks of whole prompt groups, whose gradients the ledger sees one by one. On policy, and
//! where the loss is the surrogate alone, a gradient is linear in the advantages: then rollouts that are weighed by their
//! own gradients need no second backward.
//!
//! | file | idea |
//! |---|---|
//! | `config` | the settings, and which of them do not fit each other |
//! | `effect` | settings without effect |
//! | `weigh` | from rewards to advantages, with the passes that weights and KL terms ask for |
//! | `accumulate` | the gradient of a mini-batch, chunk by chunk |
//! | `one_pass` | groups whose advantages are deferred until their gradients are known |
//! | `branches` | a step on rollouts with and without a trace |
//! | `update` | the updates of a step and their statistics |

mod accumulate;
mod branches;
mod config;
mod effect;
mod one_pass;
mod update;
mod weigh;

pub use branches::MixedStats;
pub use config::TrainerConfig;
pub use update::{Update, UpdateMetrics};

use crate::ledger::Ledger;
use crate::model::Policy;
use crate::optimizer::Optimizer;
use crate::{Result, Tensors};

/// The state of training: optimizer, ledger and frozen reference.
pub struct Trainer {
    config: TrainerConfig,
    optimizer: Optimizer,
    ledger: Ledger,
    reference: Option<Policy>,
}

impl Trainer {
    /// A trainer at the start of a run. `policy` is copied as the reference if there is a KL term.
    ///
    /// # Errors
    /// If there is no memory for the reference.
    pub fn new(config: TrainerConfig, policy: &Policy) -> Result<Self> {
        let reference = if config.loss.kl.is_some() { Some(policy.copy()?) } else { None };
        Ok(Self::with_reference(config, reference))
    }

    /// The same with a reference that nothing else needs. There must be one if there is a KL term, else none.
    pub fn with_reference(config: TrainerConfig, reference: Option<Policy>) -> Self {
        debug_assert_eq!(config.loss.kl.is_some(), reference.is_some(), "a reference goes with a KL term");
        let optimizer = Optimizer::new(&config.optimizer, &config.schedule, config.updates());
        Self { config, optimizer, ledger: Ledger::default(), reference }
    }

    /// The settings.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// The optimizer, for checkpoints.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The ledger, for checkpoints.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Puts a saved optimizer and ledger back. The reference is the policy that the trainer was made with.
    ///
    /// # Errors
    /// If the state is another optimizer's.
    pub fn restore(&mut self, updates: u64, state: Tensors, ledger: Ledger) -> Result<()> {
        self.ledger = ledger;
        self.optimizer.restore(updates, state)
    }
}
