//! What the ledger costs: one update with the exact optimal baseline against one with the group mean, same rollouts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use data::{Body, PolicyVersion, Prompt, Rollout, Score, ScoredRollout, StopReason};
use engine::baseline::{BaselineConfig, Mode, Optimal, Scale};
use engine::batch::Truncated;
use engine::ledger::LedgerConfig;
use engine::model::Policy;
use engine::objective::{Aggregate, LossConfig};
use engine::schedule::Schedule;
use engine::trainer::{Trainer, TrainerConfig};
use engine::transform::OptimizerConfig;

use super::args::BenchArgs;
use crate::machine::{forget_peak_memory, peak_memory};
use crate::timing::middle;

/// Rollouts of a prompt.
const GROUP: usize = 8;

/// One way to make an update.
pub(super) struct UpdateTimes {
    pub(super) name: &'static str,
    /// Seconds of the median update.
    pub(super) step: f64,
    /// Seconds of it that went into measuring.
    pub(super) measuring: f64,
    pub(super) peak_memory: Option<f64>,
}

/// Updates on `batch` rollouts of `length` tokens in groups of eight with rewards 0 and 1. Ways take turns, so that a
/// machine that drifts does so for all.
pub(super) fn measure(policy: &mut Policy, args: &BenchArgs) -> Result<Vec<UpdateTimes>> {
    let scored = rollouts(policy, args);
    let optimal = |mode| BaselineConfig::Optimal(Optimal { mode, ..Optimal::default() });
    // room for two rollouts, so that a group does not fit
    let bytes = policy.row_bytes_per_token() * (args.length + 16) * 2;
    let tight = bytes as f64 / (4.0 * policy.config().parameter_count() as f64);
    let ways = [
        ("group mean", BaselineConfig::GroupMean, 1, None),
        ("group mean, signal and noise", BaselineConfig::GroupMean, 8, None),
        ("optimal, leave-one-out", optimal(Mode::LeaveOneOut), 1, None),
        ("optimal, signal and noise", optimal(Mode::LeaveOneOut), 8, None),
        ("optimal in two sums", optimal(Mode::Own), 1, Some(tight)),
    ];
    let mut trainers = Vec::new();
    for (_, baseline, chunks, room) in &ways {
        let config = TrainerConfig {
            baseline: baseline.clone(),
            scale: Scale::None,
            down_sample: None,
            truncated: Truncated::Keep,
            loss: LossConfig { aggregate: Aggregate::TokenMean, ..LossConfig::default() },
            optimizer: OptimizerConfig::default(),
            schedule: Schedule { learning_rate: 1e-9, ..Schedule::default() },
            ledger: LedgerConfig { chunks: *chunks, room: *room, ..LedgerConfig::default() },
            epochs: 1,
            mini_batches: 1,
            micro_batch_tokens: args.micro_batch,
            temperature: 1.0,
            steps: 1000,
        };
        trainers.push(Trainer::new(config, policy)?);
    }
    let mut times = vec![Vec::new(); ways.len()];
    let mut measuring = vec![Vec::new(); ways.len()];
    let mut memory = vec![None; ways.len()];
    let mut moments = None;
    for step in 0..=args.steps {
        for (way, trainer) in trainers.iter_mut().enumerate() {
            // one optimizer's moments are enough memory for all
            if let Some((updates, state)) = moments.take() {
                trainer.restore(updates, state, Default::default())?;
            }
            // the first round shows the memory of each way, the others take their time with pages that are there already
            if step == 0 {
                engine::kernels::trim();
                forget_peak_memory();
            }
            let begun = Instant::now();
            let batch = trainer.batch(policy, &scored, &BTreeMap::new())?;
            let update = engine::kernels::awake(|| trainer.step(policy, &batch))?;
            if step == 0 {
                memory[way] = peak_memory();
            } else {
                times[way].push(begun.elapsed().as_secs_f64());
                measuring[way].push(update.seconds_ledger);
            }
            moments = Some((trainer.optimizer().updates(), trainer.optimizer().state()?));
            let empty = engine::Tensors::new();
            trainer.restore(0, empty, Default::default())?;
        }
    }
    let lines = ways.iter().enumerate().map(|(way, (name, ..))| UpdateTimes {
        name,
        step: middle(std::mem::take(&mut times[way])),
        measuring: middle(std::mem::take(&mut measuring[way])),
        peak_memory: memory[way],
    });
    Ok(lines.collect())
}

fn rollouts(policy: &Policy, args: &BenchArgs) -> Vec<ScoredRollout> {
    let vocab = policy.config().vocab_size as u32;
    let one = |row: usize| {
        let group = row / GROUP;
        let id = |i: usize| (row as u32 * 7919 + i as u32 * 104_729) % vocab;
        let reward = (row * 5 % 3 % 2) as f32;
        ScoredRollout {
            rollout: Rollout {
                prompt: Arc::new(Prompt {
                    id: format!("group {group}"),
                    body: Body::Text(String::new()),
                    answer: None,
                    fields: Default::default(),
                }),
                prompt_tokens: (0..16).map(|i| (group as u32 * 31 + i) % vocab).collect(),
                tokens: (0..args.length).map(id).collect(),
                text: String::new(),
                log_probs: vec![-1.0; args.length],
                stop: StopReason::Token,
                policy: PolicyVersion(0),
                occurrence: 0,
                place: row % GROUP,
                forced: vec![],
                entropy: vec![],
                top_log_probs: vec![],
            },
            score: Score { reward: Some(reward), parts: Vec::new() },
        }
    };
    (0..args.batch.next_multiple_of(GROUP)).map(one).collect()
}
