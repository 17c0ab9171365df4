//! The figures as a table for people, and as JSON.

use std::io::Write;

use anyhow::Result;
use engine::model::{Policy, Recompute};
use serde_json::{Value, json};

use super::args::BenchArgs;
use super::ledger::UpdateTimes;
use super::limits::{Limits, PathLimit};
use super::products::Product;
use super::rollout::RolloutTimes;
use crate::machine::peak_memory;

/// Writes a table for people as it comes, and collects the same for machines.
pub(super) struct BenchReport<'a> {
    pub(super) args: &'a BenchArgs,
    pub(super) threads: usize,
    pub(super) out: &'a mut dyn Write,
    pub(super) lines: Value,
}

impl BenchReport<'_> {
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

    pub(super) fn machine(&mut self, limits: &Limits) -> Result<()> {
        self.say(&format!("machine    {} thread(s)", self.threads))?;
        for path in &limits.paths {
            let name = path.kernel.path().name();
            self.say(&format!("  {name:<12} {:>8.0} GF/s on registers", path.flops / 1e9))?;
            self.add("peak", json!({ "path": name, "flops": path.flops }));
        }
        self.say(&format!("  memory       {:>8.1} GB/s read", limits.bandwidth / 1e9))?;
        self.lines["threads"] = json!(self.threads);
        self.lines["bandwidth_bytes_per_second"] = json!(limits.bandwidth);
        Ok(())
    }

    pub(super) fn products(&mut self, limits: &Limits, rows: &[Product]) -> Result<()> {
        self.say("\nproducts   rows × terms × columns               GF/s  of the limit")?;
        for row in rows {
            let limit =
                limits.paths.iter().find(|path| path.kernel.path() == row.path).map_or(1.0, |p| p.flops);
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

    /// `step` is seconds of a step of `rows` rows behind `context` tokens.
    pub(super) fn decode(
        &mut self,
        shape: &str,
        policy: &Policy,
        path: &PathLimit,
        bandwidth: f64,
        (rows, context, step): (usize, usize, f64),
    ) -> Result<()> {
        let c = policy.config();
        let size = if path.kernel.path().is_bf16() { 2 } else { 4 };
        let cache = rows * (context + self.args.tokens / 2) * 2 * c.num_hidden_layers * c.key_value_size();
        // an untied embedding is looked up, not streamed
        let lookup = if c.tie_word_embeddings { 0 } else { c.vocab_size * c.hidden_size };
        let bytes = (size * (c.parameter_count() - lookup + cache)) as f64;
        let share = 100.0 * bytes / step / bandwidth;
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

    pub(super) fn train(
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

    pub(super) fn rollout(
        &mut self,
        shape: &str,
        path: &PathLimit,
        rows: usize,
        line: &RolloutTimes,
    ) -> Result<()> {
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

    pub(super) fn ledger(
        &mut self,
        shape: &str,
        path: &PathLimit,
        recompute: Recompute,
        lines: &[UpdateTimes],
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
