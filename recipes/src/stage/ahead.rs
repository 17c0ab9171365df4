//! Sampling of the next steps while this one trains.
//!
//! Before: a copy of the policy as each step begins. After: the rollouts of the steps to come, in order. Step s is sampled
//! by the weights of step max(0, s − n), wherever the two clocks stand: so a run is the same however fast either side is,
//! and one that is resumed goes on with the rollouts that its checkpoint kept.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

use anyhow::Result;
use data::Rollout;
use engine::model::Policy;
use engine::selection::PromptKnowledge;

use super::sampler::StepSampler;
use crate::generate::Weights;
use crate::position::StageName;
use crate::step_rollouts::StepRollouts;
use crate::unfinished::Unfinished;

/// Steps to be sampled by these weights.
struct Order {
    policy: Policy,
    /// What was known of prompts when these were the weights.
    known: PromptKnowledge,
    version: u64,
    steps: std::ops::Range<u64>,
}

/// The state that sampling ahead begins with.
pub(crate) struct AheadStart {
    /// Steps that are done.
    pub(crate) step: u64,
    /// Prompts drawn for them.
    pub(crate) drawn: u64,
    /// The steps behind them that are sampled already.
    pub(crate) ahead: Vec<StepRollouts>,
    /// Rollouts of the first step behind those, from an attempt that failed.
    pub(crate) arrived: Vec<Rollout>,
}

/// A sampler that is up to `overlap` steps ahead.
pub(crate) struct Ahead {
    overlap: u64,
    steps: u64,
    /// The first step that has not been ordered.
    next: u64,
    orders: Sender<Order>,
    results: Receiver<Result<StepRollouts, Unfinished>>,
    ready: VecDeque<StepRollouts>,
    failed: Option<Unfinished>,
}

impl Ahead {
    /// Begins to sample, up to `steps` steps in all.
    pub(crate) fn start<'scope, 'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        sampler: StepSampler<'env>,
        start: AheadStart,
        steps: u64,
    ) -> Self {
        let (orders, ordered) = channel::<Order>();
        let (send, results) = channel();
        let mut drawn = start.ahead.last().map_or(start.drawn, |last| last.drawn);
        let mut arrived = start.arrived;
        scope.spawn(move || {
            for order in ordered {
                for step in order.steps {
                    let weights =
                        Weights { policy: &order.policy, stage: StageName::Rl, version: order.version };
                    let result = sampler.step(weights, step, (&order.known, drawn), &arrived, &mut |_| ());
                    // another step's rollouts of the same prompt are others
                    arrived.clear();
                    let failed = result.is_err();
                    if let Ok(rollouts) = &result {
                        drawn = rollouts.drawn;
                    }
                    if send.send(result).is_err() || failed {
                        return;
                    }
                }
            }
        });
        let next = start.step + start.ahead.len() as u64;
        let overlap = sampler.rl.overlap as u64;
        Self { overlap, steps, next, orders, results, ready: start.ahead.into(), failed: None }
    }

    /// Orders what step `step` lets be sampled, and gives the rollouts of that step.
    pub(crate) fn step(
        &mut self,
        policy: &Policy,
        known: &PromptKnowledge,
        step: u64,
    ) -> Result<Result<StepRollouts, Unfinished>> {
        let end = (step + self.overlap + 1).min(self.steps);
        if self.next < end {
            let (policy, known) = (policy.copy()?, known.clone());
            let order = Order { policy, known, version: step, steps: self.next..end };
            self.next = end;
            // a sampler that has failed takes no orders; its error is waiting
            let _ = self.orders.send(order);
        }
        if let Some(ready) = self.ready.pop_front() {
            return Ok(Ok(ready));
        }
        if let Some(failed) = self.failed.take() {
            return Ok(Err(failed));
        }
        self.results.recv().map_err(|_| anyhow::anyhow!("the sampler has ended before step {}", step + 1))
    }

    /// Waits for all steps that are ordered, and gives those of `step` and after it.
    pub(crate) fn wait(&mut self, step: u64) -> Vec<StepRollouts> {
        while self.failed.is_none() && step + (self.ready.len() as u64) < self.next {
            match self.results.recv() {
                Ok(Ok(rollouts)) => self.ready.push_back(rollouts),
                Ok(Err(failed)) => self.failed = Some(failed),
                Err(_) => break,
            }
        }
        self.ready.iter().cloned().collect()
    }
}
