"""Reward functions in the style of TRL's documentation."""

import asyncio
import re
from dataclasses import dataclass


@dataclass
class Bounds:
    low: float = 0.0
    high: float = 20.0


def length_reward(completions, **kwargs):
    """Longer is better, up to a bound."""
    bounds = Bounds()
    return [min(max(float(len(text)), bounds.low), bounds.high) for text in completions]


def format_reward(completions, **kwargs):
    """Chats: each completion is a list of messages."""
    pattern = r"^<think>.*?</think><answer>.*?</answer>$"
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.match(pattern, content, re.DOTALL) else 0.0 for content in contents]


async def patient_reward(prompts, completions, completion_ids, **kwargs):
    await asyncio.sleep(0.01)
    return [float(len(ids)) + len(prompt) / 10 for prompt, ids in zip(prompts, completion_ids)]


def math_reward(prompts, completions, task, **kwargs):
    """For one of several tasks; None for the others."""
    return [float("4" in text) if kind == "math" else None for text, kind in zip(completions, task)]


def column_reward(completions, level, answer, scale=1):
    """No **kwargs: only what is named is given."""
    return tuple(scale * float(given) if given in text else -float(n) for text, given, n in zip(completions, answer, level))


def logging_reward(completions, ground_truth, log_extra=None, log_metric=None, **kwargs):
    log_extra("truth", ground_truth)
    log_metric("share", 0.5)
    return [float(text == truth) for text, truth in zip(completions, ground_truth)]


def stateful_reward(completions, trainer_state, **kwargs):
    return [float(trainer_state.global_step)] * len(completions)
