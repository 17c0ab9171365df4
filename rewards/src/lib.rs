//! What judges a rollout.
//!
//! Before: a policy was sampled and each [`Rollout`] has its text. After: the engine reads
//! [`data::ScoredRollout`]s. A reward sees text and prompt only; without the feature `local`, which is for models that judge, this
//! crate knows neither tensors nor tokenizers.

mod code;
mod countdown;
mod error;
mod exact;
mod external;
mod extract;
mod format;
mod length;
#[cfg(feature = "local")]
mod local;
pub mod math;
mod sandbox;
mod scan;
mod sum;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use data::{Rollout, Verdict};
use rayon::prelude::*;

pub use code::{Code, CodeReward};
pub use countdown::CountdownReward;
pub use error::{RewardError, ScoringError};
pub use exact::ExactMatch;
pub use external::{Command, Grade, Http, Judge, Python, Shape, Style};
pub use extract::{Extract, Place};
pub use format::Format;
pub use length::{CosineLength, LengthReward};
#[cfg(feature = "local")]
pub use local::{LocalJudge, RewardModel};
pub use math::Math;
pub use sandbox::{
    Exit, Limit, Protection, Protections, Sandbox, SandboxError, SandboxJob, SandboxOutcome, SandboxSettings,
    Stdin,
};
pub use sum::{OnNone, PartSettings, Rewards, SumSettings};
pub use words::{Keyword, Language, Repetition};

/// Something that judges a rollout. Any function from `&Rollout` to `f32`, `Option<f32>` or [`Verdict`] is one.
pub trait Reward: Send + Sync {
    /// What it says of the rollout. It must not depend on any other rollout.
    fn score(&self, rollout: &Rollout) -> Verdict;

    /// What it says of each of the rollouts, in their order: by default [`Reward::score`] on all threads. A function
    /// that calls something outside of the program has its own way to ask about many at once.
    ///
    /// # Errors
    /// If it is no use to go on, see [`RewardError::Hangs`]. A failure for some of the rollouts is
    /// [`Verdict::failed`].
    fn score_all(&self, rollouts: &[Rollout]) -> Result<Vec<Verdict>, RewardError> {
        let score = |rollout| {
            catch_unwind(AssertUnwindSafe(|| self.score(rollout))).unwrap_or_else(|_| {
                Verdict::failed("the function panicked; its message is on standard error")
            })
        };
        Ok(rollouts.par_iter().map(score).collect())
    }

    /// The columns that any prompt of the run may have, so that a function which is given columns gets the same in each step.
    fn expect(&self, _columns: &[String]) {}

    /// What a person should know of it before a run, such as how well a sandbox is closed on this machine.
    fn about(&self) -> Option<String> {
        None
    }

    /// What is questionable about it on this machine, each as a sentence that says what would help.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// From now on appends what the function prints to this file. By default it prints nothing.
    ///
    /// # Errors
    /// If the file cannot be written to.
    fn log_to(&self, _file: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

impl<F, V> Reward for F
where
    F: Fn(&Rollout) -> V + Send + Sync,
    V: Into<Verdict>,
{
    fn score(&self, rollout: &Rollout) -> Verdict {
        self(rollout).into()
    }
}

#[cfg(test)]
mod testing {
    use std::sync::Arc;

    use data::{Body, Prompt, Rollout};

    /// A rollout that ended by itself.
    pub(crate) fn rollout(text: &str, answer: Option<&str>) -> Rollout {
        let prompt = Prompt {
            id: "p".into(),
            body: Body::Text("?".into()),
            answer: answer.map(Into::into),
            fields: Default::default(),
        };
        Rollout::of_text(Arc::new(prompt), text)
    }
}
