//! One model, and many threads that ask it.
//!
//! Before: [`crate::Reward::score_all`] has rollouts. After: a verdict for each, in their order, one after the other.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use data::{Rollout, Verdict};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A model that one thread uses at a time, and the threads that it computes on.
///
/// Those are its own. On the threads of whoever asks, one that waits for a part of a matrix product takes up other work
/// meanwhile, which may be the next question: it would wait for the model that it holds itself.
pub(super) struct Held<M> {
    model: Mutex<M>,
    threads: ThreadPool,
}

impl<M: Send> Held<M> {
    pub(super) fn new(model: M) -> Result<Self, String> {
        let threads = ThreadPoolBuilder::new().thread_name(|i| format!("judge-{i}")).build();
        let threads = threads.map_err(|error| format!("no threads to compute on: {error}"))?;
        Ok(Self { model: Mutex::new(model), threads })
    }

    /// What `judge` says of each, in their order. It is given the model as another has left it.
    pub(super) fn each<'a>(
        &self,
        rollouts: &'a [Rollout],
        mut judge: impl FnMut(&mut M, &'a Rollout) -> Verdict + Send,
    ) -> Vec<Verdict> {
        let all = || {
            let mut held = self.model.lock().unwrap_or_else(PoisonError::into_inner);
            let model: &mut M = &mut held;
            let mut one = |rollout| {
                let call = || self.threads.install(|| judge(&mut *model, rollout));
                catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
                    Verdict::failed("the model panicked; its message is on standard error")
                })
            };
            rollouts.iter().map(&mut one).collect()
        };
        thread::scope(|scope| scope.spawn(all).join().unwrap_or_else(|panic| resume_unwind(panic)))
    }
}
