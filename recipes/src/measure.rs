//! Held-out questions, asked while a run trains.
//!
//! Before: [`crate::Plan`], and the weights after some step. After: [`Accuracy`] for the metrics, and in the run's folder
//! `evaluations/STAGE-000020.json` with every question and `.jsonl.zst` with every sample, so that runs can be compared question by
//! question. The draws are the same at every step and in every run of one seed.

use anyhow::Result;
use data::{Rollout, ScoredRollout, StepSeed};
use eval::{Accuracy, Evaluation, Model, Protocol, Running, Speaker, Summary, Watch};
use rollout::{RolloutError, SampleProgress, Sampled, Sampling, Task};

use crate::folder::RunFolder;
use crate::generate::{Generation, SampleRequest, Weights};
use crate::held_out::HeldOut;
use crate::interrupt::is_stop;

/// Accuracy on the held-out questions, if there are any; the folder keeps what each of them came to.
///
/// # Errors
/// If sampling or judging fails, or the run is asked to end.
pub(crate) fn measure(
    generation: &Generation<'_>,
    weights: Weights<'_>,
    folder: &RunFolder,
) -> Result<Option<Accuracy>> {
    let plan = generation.plan;
    let measured = Measured::of(generation, weights).map_err(|error| match is_stop(&error) {
        true => plan.stop.interrupted(format!(
            "the evaluation after {} steps of {} was not finished",
            weights.version,
            weights.stage.name()
        )),
        false => error,
    })?;
    let Some(measured) = measured else { return Ok(None) };
    measured.keep(folder, plan.recipe.save.rollouts)?;
    Ok(Some(measured.accuracy))
}

/// Held-out questions, answered and judged.
#[derive(Debug, Clone)]
struct Measured {
    accuracy: Accuracy,
    evaluation: Evaluation,
    samples: Vec<ScoredRollout>,
    /// Of the file's name.
    place: String,
}

impl Measured {
    /// Asks the run's held-out questions, if it has any.
    fn of(generation: &Generation<'_>, weights: Weights<'_>) -> Result<Option<Self>> {
        let plan = generation.plan;
        let Some(HeldOut { benchmark, tasks }) = &plan.held_out else { return Ok(None) };
        let asked = AskedPolicy { generation, weights, tasks };
        let mut watched = Watched { generation, weights };
        let judged = benchmark.evaluate(&asked, plan.seed().0, Vec::new(), &mut watched)?;
        let questions = benchmark.questions(&asked, &judged);
        let place = format!("{}-{:06}", weights.stage.name(), weights.version);
        let numerics = Some(plan.choice.precision().to_owned());
        let protocol = Protocol { numerics, ..benchmark.protocol.clone() };
        let evaluation = Evaluation {
            model: Model {
                name: format!("{}/{place}", plan.recipe.name()),
                source: plan.checkpoint.source().to_owned(),
                computed: plan.choice.numerics_by(),
                sha256: None,
            },
            protocol_hash: protocol.hash(),
            seed: plan.seed().0,
            cost: judged.cost,
            summary: Summary::of(&questions, &protocol)?,
            protocol,
            problems: benchmark.problems(),
            questions,
        };
        let accuracy = Accuracy::of(&evaluation.questions)?;
        Ok(Some(Self { accuracy, evaluation, samples: judged.samples, place }))
    }

    /// Writes every question, and every sample if the run keeps rollouts.
    fn keep(&self, folder: &RunFolder, samples: bool) -> Result<()> {
        let samples = if samples { &self.samples[..] } else { &[] };
        folder.write_evaluation(&self.place, &self.evaluation, samples)
    }
}

/// The policy of a step with the held-out questions.
struct AskedPolicy<'a> {
    generation: &'a Generation<'a>,
    weights: Weights<'a>,
    tasks: &'a [Task],
}

impl Speaker for AskedPolicy<'_> {
    fn sample(
        &self,
        questions: &[usize],
        group_size: usize,
        sampling: &Sampling,
        seed: StepSeed,
        have: &[Rollout],
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        let tasks: Vec<Task> = questions.iter().map(|question| self.tasks[*question].clone()).collect();
        let stop = Some(&self.generation.plan.stop);
        let request = SampleRequest {
            weights: self.weights,
            sampling,
            tasks: &tasks,
            sizes: group_size.into(),
            seed,
            have,
            stop,
        };
        self.generation.sample(&request, progress)
    }

    fn obstacle(&self, _: usize) -> Option<String> {
        // a run refuses prompts that do not fit before it begins
        None
    }
}

/// Keeps nothing half done: the questions are asked anew at every measurement.
struct Watched<'a> {
    generation: &'a Generation<'a>,
    weights: Weights<'a>,
}

impl Watch for Watched<'_> {
    fn keep(&mut self, _: &[ScoredRollout]) -> std::io::Result<()> {
        Ok(())
    }

    fn running(&mut self, Running { finished, wanted, .. }: Running) {
        let step = self.weights.version;
        self.generation.tell(&format!("evaluation after step {step}: {finished} of {wanted} samples"));
    }

    fn stops(&mut self) -> bool {
        self.generation.plan.stop.is_requested()
    }
}
