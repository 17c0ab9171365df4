//! `evenkeel bench`: the machine's limits, and how near to them training and sampling come.
//!
//! Every figure is a median over repetitions in this very run; shares are of limits that the same run measured, since
//! machines differ and drift.

mod ledger;
mod rollout;

use std::io::Write;
use std::time::Instant;

use ::rollout::{Before, Sampling, draw};
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use engine::Tensors;
use engine::gradient::{self, Sequence};
use engine::kernels::{Kernel, Packed, Path, Start, View, bandwidth, peak_flops, product};
use engine::model::{Compute, KvRow, ModelConfig, Policy, Recompute};
use engine::objective::Loss;
use engine::optimizer::Optimizer;
use engine::schedule::Schedule;
use engine::transform::OptimizerConfig;
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::cli::{BenchArgs, BenchPart, Usage};
use crate::recipe::ComputeRecipe;

/// Sizes without weights, by name: family, vocabulary, hidden, intermediate, layers, heads, key heads, head width.
const SHAPES: [(&str, &str, [usize; 7]); 4] = [
    ("qwen2.5-0.5b", "qwen2", [151_936, 896, 4864, 24, 14, 2, 64]),
    ("qwen3-0.6b", "qwen3", [151_936, 1024, 3072, 28, 16, 8, 128]),
    ("512x8", "qwen3", [4096, 512, 1536, 8, 8, 4, 64]),
    ("256x6", "qwen3", [2048, 256, 768, 6, 4, 2, 64]),
];

/// Measures, prints, and gives JSON where asked.
pub(crate) fn bench(args: &BenchArgs, out: &mut dyn Write) -> Result<()> {
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
    let mut report = Report { args, threads, out, lines: json!({}) };
    let machine = pool.install(|| Machine::measure(args))?;
    report.machine(&machine)?;
    let wants = |part: BenchPart| args.parts.is_empty() || args.parts.contains(&part);
    if wants(BenchPart::Products) {
        let rows = pool.install(|| products(&machine, args.seconds));
        report.products(&machine, &rows)?;
    }
    if args.parts.is_empty() || args.parts.iter().any(|part| *part != BenchPart::Products) {
        for shape in &args.shape {
            for path in &machine.paths {
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
                            report.decode(shape, &policy, path, &machine, *rows, *context, step)?;
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

/// Whether a path is among those that were asked for.
fn allows(wish: ComputeRecipe, kernel: Kernel) -> bool {
    match wish {
        ComputeRecipe::Auto => true,
        ComputeRecipe::F32 => !kernel.path().is_bf16(),
        ComputeRecipe::Bf16 => kernel.path().is_bf16(),
    }
}

struct PathLimit {
    kernel: Kernel,
    flops: f64,
}

struct Machine {
    paths: Vec<PathLimit>,
    bandwidth: f64,
}

impl Machine {
    fn measure(args: &BenchArgs) -> Result<Self> {
        let usage = |error: engine::kernels::UnknownPath| Usage::error(error.to_string());
        let mut kernels = vec![Kernel::f32().map_err(usage)?];
        kernels.extend(Kernel::bf16().map_err(usage)?);
        let limit = |kernel| PathLimit { kernel, flops: peak_flops(kernel, args.seconds) };
        Ok(Self { paths: kernels.into_iter().map(limit).collect(), bandwidth: bandwidth() })
    }
}

/// Seconds of the median of repetitions that fill about `seconds`, at least three.
fn median(seconds: f64, mut f: impl FnMut()) -> f64 {
    f(); // caches, pages and clocks
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || (begun.elapsed().as_secs_f64() < seconds && times.len() < 1000) {
        let begun = Instant::now();
        f();
        times.push(begun.elapsed().as_secs_f64());
    }
    middle(times)
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

struct ProductRow {
    path: Path,
    size: (usize, usize, usize),
    kind: &'static str,
    flops: f64,
}

/// The shapes of a training pass and of decoding a 0.5B model.
fn products(machine: &Machine, seconds: f64) -> Vec<ProductRow> {
    let mut rows = Vec::new();
    for (m, k, n) in [
        (4096, 896, 4864),
        (4096, 4864, 896),
        (4096, 896, 896),
        (1024, 896, 16384),
        (32, 896, 4864),
        (8, 896, 151_936),
        (1, 896, 151_936),
    ] {
        let a: Vec<f32> = (0..m * k).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
        let b: Vec<f32> = (0..n * k).map(|i| (i % 241) as f32 / 241.0 - 0.5).collect();
        let mut out = vec![0f32; m * n];
        for path in &machine.paths {
            let kernel = path.kernel;
            let mut add = |kind, time: f64| {
                let flops = 2.0 * (m * n * k) as f64 / time;
                rows.push(ProductRow { path: kernel.path(), size: (m, k, n), kind, flops });
            };
            let packed = Packed::from_rows(kernel, &b, n, k);
            let left = View::rows(&a, k);
            add(
                "x·Wᵀ",
                median(seconds, || product(kernel, (m, n, k), left, &packed, &mut out, n, Start::Zero)),
            );
            if m >= 1024 {
                let right = View::rows(&b, n);
                add(
                    "dy·W",
                    median(seconds, || product(kernel, (m, n, k), left, right, &mut out, n, Start::Zero)),
                );
                let left = View::rows(&a, m).t();
                add(
                    "dyᵀ·x",
                    median(seconds, || product(kernel, (m, n, k), left, right, &mut out, n, Start::Add)),
                );
            }
        }
    }
    rows
}

/// Whether a shape is built in, or may be a checkpoint.
fn known(name: &str) -> bool {
    SHAPES.iter().any(|(known, ..)| *known == name)
        || name == "tiny"
        || std::path::Path::new(name).is_dir()
        || name.contains('/')
}

/// A model to measure: a built-in shape with arbitrary weights, or a checkpoint.
fn model(name: &str) -> Result<(ModelConfig, Tensors)> {
    let Some((_, family, [vocab, hidden, intermediate, layers, heads, kv_heads, head_dim])) =
        SHAPES.iter().find(|(known, ..)| *known == name)
    else {
        let checkpoint = crate::builtin::checkpoint(name, None)?;
        return Ok((checkpoint.config()?, checkpoint.weights(&Device::Cpu)?));
    };
    let architecture = if *family == "qwen2" { "Qwen2ForCausalLM" } else { "Qwen3ForCausalLM" };
    let config = json!({
        "model_type": family, "architectures": [architecture], "vocab_size": vocab, "hidden_size": hidden,
        "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": head_dim, "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": true, "hidden_act": "silu",
        "torch_dtype": "float32", "eos_token_id": 1,
    });
    let config = ModelConfig::from_json(&config.to_string())?;
    let weights = arbitrary_weights(&config)?;
    Ok((config, weights))
}

/// Weights of the usual sizes that mean nothing; products take the same time for all.
pub(crate) fn arbitrary_weights(config: &ModelConfig) -> Result<Tensors> {
    let mut weights = Tensors::new();
    for (name, shape) in config.parameters() {
        let count: usize = shape.iter().product();
        let numbers: Vec<f32> = if name.ends_with("norm.weight") {
            vec![1.0; count]
        } else {
            (0..count as u32).into_par_iter().map(scattered).collect()
        };
        weights.insert(name, Tensor::from_vec(numbers, shape, &Device::Cpu)?);
    }
    Ok(weights)
}

/// A number in ±0.035 that depends on the place alone.
fn scattered(place: u32) -> f32 {
    let x = place.wrapping_mul(0x9e37_79b9);
    let x = (x ^ (x >> 15)).wrapping_mul(0x85eb_ca6b);
    ((x ^ (x >> 13)) >> 8) as f32 / (1 << 24) as f32 * 0.07 - 0.035
}

/// Seconds of one training step: forward, backward and AdamW over `batch` rows of `length` tokens.
fn train(policy: &mut Policy, args: &BenchArgs) -> Result<f64> {
    let vocab = policy.config().vocab_size as u32;
    let tokens: Vec<Vec<u32>> = (0..args.batch as u32)
        .map(|row| (0..=args.length as u32).map(|i| (row * 7919 + i * 104_729) % vocab).collect())
        .collect();
    let sequences: Vec<Sequence<'_>> =
        tokens.iter().map(|row| Sequence { prompt: &row[..1], completion: &row[1..] }).collect();
    let count = (args.batch * args.length) as f64;
    let schedule = Schedule { learning_rate: 1e-5, ..Schedule::default() };
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &schedule, 1000);
    let mut times = Vec::new();
    for step in 0..=args.steps {
        let begun = Instant::now();
        let result = gradient::gradients(policy, &sequences, args.micro_batch, 1.0, &|padded| {
            let loss = (padded.log_probs.sum_all()? * (-1.0 / count))?;
            Ok(Loss::plain(loss))
        })?;
        optimizer.update(policy, &result.grads, 1.0)?;
        if step > 0 {
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(middle(times))
}

/// Seconds of one decoding step for so many rows behind `context` tokens, drawing included: the median of `tokens` steps, before
/// each of which `between` is called.
pub(crate) fn decode(
    policy: &Policy,
    (rows, context, tokens): (usize, usize, usize),
    shared: bool,
    between: &mut dyn FnMut(),
) -> Result<f64> {
    let vocab = policy.config().vocab_size;
    let prompt: Vec<u32> = (0..context as u32).map(|i| i * 7919 % vocab as u32).collect();
    let mut caches = Vec::new();
    if shared {
        let mut first = KvRow::to_share(policy, context)?;
        policy.extend(&mut [(&mut first, &prompt)])?;
        let prefix = first.share();
        for _ in 0..rows {
            caches.push(KvRow::behind(&prefix, context + tokens + 1)?);
        }
    } else {
        for _ in 0..rows {
            let mut row = KvRow::new(policy, context + tokens + 1)?;
            policy.extend(&mut [(&mut row, &prompt)])?;
            caches.push(row);
        }
    }
    let mut next: Vec<[u32; 1]> = (0..rows as u32).map(|row| [row % vocab as u32]).collect();
    let sampling = Sampling::default();
    let mut times = Vec::new();
    let mut step = |token: usize| -> Result<()> {
        let mut inputs: Vec<(&mut KvRow, &[u32])> =
            caches.iter_mut().zip(&next).map(|(cache, next)| (cache, next.as_slice())).collect();
        let hidden = policy.extend(&mut inputs)?;
        let places: Vec<u32> = (0..rows as u32).collect();
        let mut logits = policy.logits(&hidden, &places)?;
        next.par_iter_mut().zip(logits.par_chunks_exact_mut(vocab)).enumerate().try_for_each(
            |(row, (next, logits))| -> Result<()> {
                let uniform = f64::from(scattered((row * 1000 + token) as u32)) * 14.0 + 0.5;
                let drawn = draw(logits, &sampling, Before::default(), uniform.clamp(0.0, 0.999));
                next[0] = drawn.context("the logits are not finite")?.token;
                Ok(())
            },
        )
    };
    for token in 0..tokens {
        between();
        let begun = Instant::now();
        engine::kernels::awake(|| step(token))?;
        if token > 0 {
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(middle(times))
}

/// Lets the largest memory begin again at what is used now, where the system can.
fn forget_peak_memory() {
    // elsewhere the figure is that of the whole run so far, which is larger, not wrong
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Largest memory the process has had, in bytes, where the system says so.
pub(crate) fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
}

/// Writes a table for people as it comes, and collects the same for machines.
struct Report<'a> {
    args: &'a BenchArgs,
    threads: usize,
    out: &'a mut dyn Write,
    lines: Value,
}

impl Report<'_> {
    fn add(&mut self, part: &str, line: Value) {
        match self.lines.get_mut(part).and_then(Value::as_array_mut) {
            Some(lines) => lines.push(line),
            None => self.lines[part] = json!([line]),
        }
    }

    fn say(&mut self, text: &str) -> Result<()> {
        if !self.args.json {
            writeln!(self.out, "{text}")?;
            self.out.flush()?;
        }
        Ok(())
    }

    fn machine(&mut self, machine: &Machine) -> Result<()> {
        self.say(&format!("machine    {} thread(s)", self.threads))?;
        for path in &machine.paths {
            let name = path.kernel.path().name();
            self.say(&format!("  {name:<12} {:>8.0} GF/s on registers", path.flops / 1e9))?;
            self.add("peak", json!({ "path": name, "flops": path.flops }));
        }
        self.say(&format!("  memory       {:>8.1} GB/s read", machine.bandwidth / 1e9))?;
        self.lines["threads"] = json!(self.threads);
        self.lines["bandwidth_bytes_per_second"] = json!(machine.bandwidth);
        Ok(())
    }

    fn products(&mut self, machine: &Machine, rows: &[ProductRow]) -> Result<()> {
        self.say("\nproducts   rows × terms × columns               GF/s  of the limit")?;
        for row in rows {
            let limit =
                machine.paths.iter().find(|path| path.kernel.path() == row.path).map_or(1.0, |p| p.flops);
            let (m, k, n) = row.size;
            let size = format!("{m} × {k} × {n}");
            let (name, share) = (row.path.name(), 100.0 * row.flops / limit);
            self.say(&format!(
                "  {name:<12} {:<6} {size:<22} {:>8.0} {share:>7.0} %",
                row.kind,
                row.flops / 1e9
            ))?;
            self.add(
                "products",
                json!({ "path": name, "kind": row.kind, "size": [m, k, n], "flops": row.flops, "share": share / 100.0 }),
            );
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a line of the table")]
    fn decode(
        &mut self,
        shape: &str,
        policy: &Policy,
        path: &PathLimit,
        machine: &Machine,
        rows: usize,
        context: usize,
        step: f64,
    ) -> Result<()> {
        let c = policy.config();
        let size = if path.kernel.path().is_bf16() { 2 } else { 4 };
        let cache = rows * (context + self.args.tokens / 2) * 2 * c.num_hidden_layers * c.key_value_size();
        // an untied embedding is looked up, not streamed
        let lookup = if c.tie_word_embeddings { 0 } else { c.vocab_size * c.hidden_size };
        let bytes = (size * (c.parameter_count() - lookup + cache)) as f64;
        let share = 100.0 * bytes / step / machine.bandwidth;
        let name = path.kernel.path().name();
        let speed = rows as f64 / step;
        self.say(&format!(
            "decode     {shape} {name}: {rows} rows behind {context} tokens: {speed:.1} tok/s, {:.1} ms a step, {share:.0} % of the streaming bound",
            1e3 * step
        ))?;
        self.add(
            "decode",
            json!({
                "shape": shape, "path": name, "rows": rows, "context": context, "tokens_per_second": speed,
                "seconds_per_step": step, "bandwidth_share": share / 100.0,
            }),
        );
        Ok(())
    }

    fn train(
        &mut self,
        shape: &str,
        policy: &Policy,
        path: &PathLimit,
        recompute: Recompute,
        step: f64,
    ) -> Result<()> {
        let tokens = (self.args.batch * self.args.length) as f64;
        let flops = 6.0 * policy.config().parameter_count() as f64 * tokens / step;
        let (name, share) = (path.kernel.path().name(), 100.0 * flops / path.flops);
        let memory = peak_memory();
        let gib = memory.map_or("unknown".into(), |bytes| format!("{:.2} GiB", bytes / (1u64 << 30) as f64));
        let kept = serde_json::to_value(recompute)?;
        self.say(&format!(
            "train      {shape} {name}, recompute {kept}: {:.0} tok/s, {step:.2} s a step of {} × {}, {:.0} GF/s of model arithmetic ({share:.0} % of the limit), peak memory {gib}",
            tokens / step,
            self.args.batch,
            self.args.length,
            flops / 1e9,
        ))?;
        self.add(
            "train",
            json!({
                "shape": shape, "path": name, "recompute": kept, "tokens_per_second": tokens / step,
                "seconds_per_step": step, "model_flops": flops, "share": share / 100.0,
                "peak_memory_bytes": memory,
            }),
        );
        Ok(())
    }

    fn rollout(&mut self, shape: &str, path: &PathLimit, rows: usize, line: &rollout::Line) -> Result<()> {
        let (name, stats) = (path.kernel.path().name(), &line.stats);
        let speed = stats.tokens as f64 / line.seconds;
        let busy = stats
            .slot_use()
            .map_or("all rows from the start".into(), |share| format!("slots busy {:.1} %", 100.0 * share));
        let guesses = stats.acceptance().map_or(String::new(), |share| {
            format!(", {} guesses, {:.1} % right", stats.guessed, 100.0 * share)
        });
        self.say(&format!(
            "rollout    {shape} {name}: {} rollouts in groups of {} in {rows} slots: {speed:.1} tok/s, {} passes in {:.2} s, {busy}, keys and values {:.1} MiB{guesses}",
            line.rollouts, self.args.group, stats.passes, line.seconds, stats.memory as f64 / (1 << 20) as f64
        ))?;
        self.add(
            "rollout",
            json!({
                "shape": shape, "path": name, "rows": rows, "group": self.args.group, "rollouts": line.rollouts,
                "tokens_per_second": speed, "seconds": line.seconds, "stats": stats, "slot_use": stats.slot_use(),
            }),
        );
        Ok(())
    }

    fn ledger(
        &mut self,
        shape: &str,
        path: &PathLimit,
        recompute: Recompute,
        lines: &[ledger::Line],
    ) -> Result<()> {
        let (name, kept) = (path.kernel.path().name(), serde_json::to_value(recompute)?);
        self.say(&format!("ledger     {shape} {name}, recompute {kept}:"))?;
        let plain = lines.first().map_or(1.0, |line| line.step);
        for line in lines {
            let gib = line
                .peak_memory
                .map_or("unknown".into(), |bytes| format!("{:.2} GiB", bytes / (1u64 << 30) as f64));
            let (ratio, share) = (line.step / plain, 100.0 * line.measuring / line.step);
            self.say(&format!(
                "             {:<28} {:>9.3} s a step, {ratio:.3} × the group mean; {share:>4.1} % measuring; peak memory {gib}",
                line.name, line.step
            ))?;
            self.add(
                "ledger",
                json!({
                    "shape": shape, "path": name, "recompute": kept, "way": line.name,
                    "seconds_per_step": line.step, "ratio": ratio, "measuring_share": share / 100.0,
                    "peak_memory_bytes": line.peak_memory,
                }),
            );
        }
        Ok(())
    }
}
