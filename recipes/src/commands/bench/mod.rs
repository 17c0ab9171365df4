//! `evenkeel bench`: the machine's limits, and how near to them training and sampling come.
//!
//! Every figure is a median over repetitions in this very run; shares are of limits that the same run measured, since
//! machines differ and drift.

mod args;
mod ledger;
mod limits;
mod models;
mod products;
mod report;
mod rollout;
mod train;

use std::io::Write;

use anyhow::Result;
use candle_core::Device;
use engine::kernels::Kernel;
use engine::model::{Compute, Policy, Recompute};
use serde_json::json;

pub(crate) use self::args::{BenchArgs, BenchPart, with_commas};
use self::limits::Limits;
use self::models::{SHAPES, known, model};
use self::products::products;
use self::report::BenchReport;
use self::train::train;
use crate::machine::forget_peak_memory;
use crate::recipe::ComputeRecipe;
use crate::timing::decode;
use crate::usage::Usage;

/// Measures, prints, and gives JSON where asked.
pub(crate) fn run(args: &BenchArgs, out: &mut dyn Write) -> Result<()> {
    if let Some(problem) = args.problem() {
        return Err(Usage::error(problem));
    }
    let threads =
        args.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()), usize::from);
    if let Some(shape) = args.shape.iter().find(|shape| !known(shape)) {
        let known: Vec<&str> = SHAPES.iter().map(|(name, ..)| *name).collect();
        return Err(Usage::error(format!(
            "--shape `{shape}`: wanted one of {}, or a checkpoint",
            known.join(", ")
        )));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let mut report = BenchReport { args, threads, out, lines: json!({}) };
    let limits = pool.install(|| Limits::measure(args))?;
    report.machine(&limits)?;
    let wants = |part: BenchPart| args.parts.is_empty() || args.parts.contains(&part);
    if wants(BenchPart::Products) {
        let rows = pool.install(|| products(&limits, args.seconds));
        report.products(&limits, &rows)?;
    }
    if args.parts.is_empty() || args.parts.iter().any(|part| *part != BenchPart::Products) {
        for shape in &args.shape {
            for path in &limits.paths {
                let kernel = path.kernel;
                if !allows(args.compute, kernel) {
                    continue;
                }
                let (config, weights) = pool.install(|| model(shape))?;
                let mut policy = pool.install(|| {
                    Policy::with_compute(config, weights, &Device::Cpu, Compute::Fused(kernel))
                })?;
                if wants(BenchPart::Decode) {
                    for context in &args.context {
                        for rows in &args.rows {
                            let size = (*rows, *context, args.tokens);
                            let step = pool.install(|| decode(&policy, size, args.shared, &mut || ()))?;
                            let measured = (*rows, *context, step);
                            report.decode(shape, &policy, path, limits.bandwidth, measured)?;
                        }
                    }
                }
                if args.parts.contains(&BenchPart::Rollout) {
                    for rows in &args.rows {
                        let line = pool.install(|| rollout::measure(&policy, *rows, args))?;
                        report.rollout(shape, path, *rows, &line)?;
                    }
                }
                if args.parts.contains(&BenchPart::Ledger) {
                    // the recipe's default
                    let recompute = Recompute::Layer;
                    policy.set_recompute(recompute);
                    let lines = pool.install(|| ledger::measure(&mut policy, args))?;
                    report.ledger(shape, path, recompute, &lines)?;
                }
                if wants(BenchPart::Train) {
                    for recompute in [Recompute::None, Recompute::Layer] {
                        policy.set_recompute(recompute);
                        engine::kernels::trim();
                        forget_peak_memory();
                        let step = pool.install(|| train(&mut policy, args))?;
                        report.train(shape, &policy, path, recompute, step)?;
                    }
                }
            }
        }
    }
    if args.json {
        let lines = serde_json::to_string_pretty(&report.lines)?;
        writeln!(report.out, "{lines}")?;
    }
    Ok(())
}

/// True of a path that is among those that were asked for.
fn allows(wish: ComputeRecipe, kernel: Kernel) -> bool {
    match wish {
        ComputeRecipe::Auto => true,
        ComputeRecipe::F32 => !kernel.path().is_bf16(),
        ComputeRecipe::Bf16 => kernel.path().is_bf16(),
    }
}
