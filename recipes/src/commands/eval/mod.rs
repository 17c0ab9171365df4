//! `evenkeel eval`: models on benchmarks.
//!
//! Before: [`settings::Settings`]. After: a folder with every sample, every figure and pages to read.

mod args;
mod folder;
mod output;
mod settings;
mod subject;

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use data::ScoredRollout;
use eval::{
    Adaptive, Benchmark, Comparison, EvalError, Evaluation, Model, Protocol, Question, Results, Running,
    Runs, Samples, Speaker, Summary, Watch,
};

pub(crate) use self::args::EvalArgs;
use self::folder::Folder;
use self::settings::{ModelSettings, Settings};
use self::subject::Subject;
use crate::custom::CustomRewards;
use crate::interrupt::{Session, Stop, is_stop};
use crate::progress::{Display, line};
use crate::usage::{Usage, is_usage};

/// Evaluates, or goes on with an evaluation.
pub(crate) fn run(
    args: &EvalArgs,
    custom: &CustomRewards,
    session: &Session,
    out: &mut dyn Write,
) -> Result<()> {
    let settings = match &args.resume {
        Some(folder) => Settings::read(folder)?,
        None => Settings::of(args)?,
    };
    // whatever is wrong with the last benchmark or model is known before the first sample
    let benchmarks = settings.benchmarks.iter().map(|recipe| crate::benchmark::build(recipe, custom));
    let benchmarks = benchmarks.collect::<Result<Vec<Benchmark>>>()?;
    let numerics = settings.models.iter().map(|model| {
        Subject::check(&settings, model, &benchmarks).with_context(|| format!("model `{}`", model.name))
    });
    let numerics = numerics.collect::<Result<Vec<Option<String>>>>()?;
    let folder = match &args.resume {
        Some(folder) => Folder::open(folder)?,
        None => Folder::create(args.out.as_deref(), &settings)?,
    };
    let place = folder.path().display();
    session.stop.resumable("eval", folder.path());
    let heeding = session.stop.heed();
    let evaluations =
        evaluate(&settings, &numerics, &benchmarks, &folder, &session.stop).map_err(|error| {
            if is_usage(&error) {
                session.stop.cannot_go_on();
            }
            match is_stop(&error) {
                true => session.stop.interrupted(format!("what was sampled is in `{place}`")),
                false => error.context(format!("what was sampled is in `{place}`")),
            }
        })?;
    drop(heeding);
    let results = results(&settings, evaluations)?;
    output::write(&folder, &settings, &benchmarks, &results)?;
    output::print(&folder, &results, args.json, out)
}

/// Every model on every benchmark that is not finished yet.
fn evaluate(
    settings: &Settings,
    numerics: &[Option<String>],
    benchmarks: &[Benchmark],
    folder: &Folder,
    stop: &Stop,
) -> Result<Vec<Evaluation>> {
    let mut evaluations = Vec::new();
    for (model, numerics) in settings.models.iter().zip(numerics) {
        let mut subject = None;
        for benchmark in benchmarks {
            let protocol = Protocol { numerics: numerics.clone(), ..benchmark.protocol.clone() };
            let name = &protocol.benchmark;
            if let Some(part) = folder.part(&model.name, name)? {
                if part.protocol.hash() != protocol.hash() {
                    let differences = part.protocol.differences(&protocol).join("; ");
                    return Err(Usage::error(format!(
                        "benchmark `{name}` is not what it was when `{}` was measured ({differences}); evaluate into another folder by --out",
                        model.name
                    )));
                }
                line(&format!("{} on {name} is there already", model.name));
                evaluations.push(part);
                continue;
            }
            if stop.is_requested() {
                return Err(stop.interrupted(format!("{} on {name} was not begun", model.name)));
            }
            let subject = match &mut subject {
                Some(subject) => &*subject,
                none => none.insert(
                    Subject::new(settings, model).with_context(|| format!("model `{}`", model.name))?,
                ),
            };
            let evaluation = one(settings, model, subject, benchmark, &protocol, folder, stop)
                .with_context(|| format!("`{}` on benchmark `{name}`", model.name))?;
            folder.write_part(&evaluation)?;
            evaluations.push(evaluation);
        }
    }
    Ok(evaluations)
}

/// One model on one benchmark.
fn one(
    settings: &Settings,
    model: &ModelSettings,
    subject: &Subject,
    benchmark: &Benchmark,
    protocol: &Protocol,
    folder: &Folder,
    stop: &Stop,
) -> Result<Evaluation> {
    let name = &benchmark.protocol.benchmark;
    let asked = subject.on(benchmark)?;
    let have = folder.samples(&model.name, name)?;
    folder.check_samples(&have, &model.name, benchmark)?;
    // without the line that a kill may have cut short
    folder.write_samples(&model.name, name, &have)?;
    let wanted = benchmark.prompts.len() * benchmark.protocol.samples.most();
    if !have.is_empty() {
        line(&format!("{} on {name}: {} samples are there already", model.name, have.len()));
    }
    let mut keeper = Keeper {
        file: folder.grow(&model.name, name)?,
        display: Display::new("eval", have.len() as u64, wanted as u64),
        about: format!("{} · {name}", model.name),
        begun: Instant::now(),
        stop,
    };
    let judged = match benchmark.evaluate(&asked, settings.seed, have, &mut keeper) {
        Ok(judged) => judged,
        Err(EvalError::Keep(error)) => {
            let file = folder.samples_file(&model.name, name);
            return Err(error).with_context(|| format!("could not write to `{}`", file.display()));
        }
        Err(error) => return Err(error.into()),
    };
    drop(keeper);
    folder.write_samples(&model.name, name, &judged.samples)?;
    let questions = benchmark.questions(&asked, &judged);
    let skipped = (0..benchmark.prompts.len()).filter(|q| asked.obstacle(*q).is_some()).count();
    if skipped > 0 {
        line(&format!(
            "{} on {name}: {skipped} prompts do not fit the model's context and count as wrong",
            model.name
        ));
    }
    let summary = Summary::of(&questions, protocol)?;
    if let Samples::Adaptive(adaptive) = benchmark.protocol.samples
        && let Some(wide) = too_wide(&adaptive, &questions, &summary)
    {
        line(&format!("{} on {name}: {wide}", model.name));
    }
    Ok(Evaluation {
        model: Model {
            name: model.name.clone(),
            source: model.source.clone(),
            computed: subject.computed(model),
            sha256: subject.sha256()?,
        },
        protocol: protocol.clone(),
        protocol_hash: protocol.hash(),
        seed: settings.seed,
        cost: judged.cost,
        summary,
        problems: benchmark.problems(),
        questions,
    })
}

/// What the adapted number of samples did not reach, if anything.
fn too_wide(adaptive: &Adaptive, questions: &[Question], summary: &Summary) -> Option<String> {
    let (wanted, most) = (adaptive.half_width, adaptive.most);
    if adaptive.each {
        let widths = questions.iter().filter_map(|question| Some(question.interval?.half_width()));
        let (wide, widest) = widths
            .filter(|width| *width > wanted)
            .fold((0, 0.0), |(count, widest), width| (count + 1, f64::max(widest, width)));
        return (wide > 0).then(|| {
            format!("{wide} questions are not known to ± {wanted}, the worst to ± {widest:.4}; a question gets {most} samples at most")
        });
    }
    let width = summary.over_draws.as_ref()?.interval.half_width();
    (width > wanted).then(|| {
        format!("the interval over draws is ± {width:.4} and not ± {wanted}: the hardest questions to tell have all {most} samples")
    })
}

/// The evaluations with what they say of each other.
fn results(settings: &Settings, evaluations: Vec<Evaluation>) -> Result<Results> {
    let (mut comparisons, mut runs) = (Vec::new(), Vec::new());
    for benchmark in settings.benchmarks.iter().map(|benchmark| benchmark.name()) {
        let of: Vec<&Evaluation> = evaluations.iter().filter(|e| e.protocol.benchmark == benchmark).collect();
        if let Some((first, others)) = of.split_first().filter(|(first, _)| first.questions.len() > 1) {
            for other in others {
                comparisons.push(Comparison::of(first, other)?);
            }
            if settings.replicas {
                runs.push(Runs::of(&of)?);
            }
        }
    }
    let evenkeel = env!("CARGO_PKG_VERSION").into();
    Ok(Results { evenkeel, evaluations, comparisons, runs })
}

/// Keeps samples as they come, and shows how far it is.
struct Keeper<'a> {
    file: File,
    display: Display,
    about: String,
    begun: Instant,
    stop: &'a Stop,
}

impl Watch for Keeper<'_> {
    fn keep(&mut self, samples: &[ScoredRollout]) -> std::io::Result<()> {
        folder::append(&mut self.file, samples)
    }

    fn stops(&mut self) -> bool {
        self.stop.is_requested()
    }

    fn running(&mut self, running: Running) {
        let speed = running.tokens as f64 / self.begun.elapsed().as_secs_f64().max(1e-9);
        let speed = if running.tokens > 0 { format!(" · {speed:.0} tok/s") } else { String::new() };
        let accuracy = running.accuracy.map_or_else(String::new, |a| {
            let Evaluated { value, low, high } = Evaluated::of(&a);
            format!(" · {value:.1} % [{low:.1}, {high:.1}] so far")
        });
        let about = &self.about;
        self.display.set_total(running.wanted as u64);
        if running.finished > 0 {
            self.display.step(running.finished as u64, &format!("{about}{accuracy}{speed}"));
        } else {
            self.display.within(&format!("{about}: none of {} samples yet{speed}", running.wanted));
        }
    }
}

/// A figure and its interval in per cent.
struct Evaluated {
    value: f64,
    low: f64,
    high: f64,
}

impl Evaluated {
    fn of(estimate: &eval::stats::Estimate) -> Self {
        let interval = estimate.interval;
        Self { value: 100.0 * estimate.value, low: 100.0 * interval.low, high: 100.0 * interval.high }
    }
}
