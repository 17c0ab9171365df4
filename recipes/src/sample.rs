//! `evenkeel sample`: what a checkpoint says to a prompt.

use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use candle_core::Device;
use data::{Body, Message, PolicyVersion, Prompt, Seed};
use engine::model::Policy;
use rollout::{Sampler, Sampling};

use crate::cli::{SampleArgs, Usage};
use crate::plan::Reader;
use crate::recipe::ThinkingRecipe;

/// Samples and prints.
pub(crate) fn sample(args: &SampleArgs, out: &mut dyn Write) -> Result<()> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        max_tokens: args.max_tokens,
        stop: args.stop.clone(),
    };
    if let Some(problem) = sampling.problem() {
        return Err(Usage::error(problem));
    }
    let checkpoint = crate::builtin::checkpoint(&args.model, args.revision.as_deref())?;
    let (config, tokenizer) = (checkpoint.config()?, checkpoint.tokenizer()?);
    tokenizer.check(&config)?;
    let mut stop_tokens = config.eos_token_ids.clone();
    stop_tokens.extend(tokenizer.eos());
    let reader = Reader {
        tokenizer: &tokenizer,
        template: checkpoint.template()?,
        enable_thinking: args.enable_thinking,
        thinking: ThinkingRecipe { open: String::new(), empty_trace: String::new() },
        limit: config.max_position_embeddings,
        place: checkpoint.source(),
    };
    let body = if args.chat {
        let system = args.system.iter().map(Message::system);
        Body::Chat(system.chain([Message::user(&args.prompt)]).collect())
    } else {
        Body::Text(args.prompt.clone())
    };
    let prompt = Prompt { id: "prompt".into(), body, answer: None, fields: Default::default() };
    let task = reader.task(&Arc::new(prompt))?;
    let (device, place) = crate::device::resolve(args.device)?;
    let choice = crate::compute::choose(args.compute, config.parameter_count(), &device, &place)?;
    let policy = Policy::with_compute(config, checkpoint.weights(&Device::Cpu)?, &device, choice.compute)?;
    let sampler = Sampler {
        policy: &policy,
        version: PolicyVersion(0),
        tokenizer: &tokenizer,
        sampling: &sampling,
        stop_tokens: &stop_tokens,
        max_rows: 64,
    };
    let rollouts = sampler.sample(&[task], args.number, Seed(args.seed).at(0), &mut |_, _| ())?;
    for rollout in rollouts {
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&rollout)?)?;
        } else {
            let mark = if rollout.truncated() { " [cut at max-tokens]" } else { "" };
            writeln!(out, "{}{mark}", rollout.text)?;
        }
    }
    Ok(())
}
