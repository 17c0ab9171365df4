"""Does a checkpoint that Evenkeel wrote say the same in transformers?

usage: same_log_probs.py EVENKEEL CHECKPOINT PROMPT [--tokens N] [--tolerance T]

Samples with `evenkeel sample --json`, loads the same folder with transformers in f32, and compares the log-prob of
every sampled token. Not part of `cargo test`; `pip install -r requirements.txt` first.
"""
import argparse
import json
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("evenkeel")
parser.add_argument("checkpoint")
parser.add_argument("prompt")
parser.add_argument("--tokens", type=int, default=32)
parser.add_argument("--tolerance", type=float, default=1e-3)
args = parser.parse_args()

command = [args.evenkeel, "sample", args.checkpoint, "--prompt", args.prompt, "--json", "-n", "4",
           "--max-tokens", str(args.tokens)]
rollouts = [json.loads(line) for line in subprocess.check_output(command, text=True).splitlines()]
tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
model = AutoModelForCausalLM.from_pretrained(args.checkpoint, dtype=torch.float32)
worst = 0.0
for rollout in rollouts:
    prompt, tokens = rollout["prompt_tokens"], rollout["tokens"]
    if prompt != tokenizer(args.prompt, add_special_tokens=False)["input_ids"]:
        sys.exit("the prompt's tokens differ: " + str(prompt))
    with torch.no_grad():
        logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    theirs = logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    worst = max(worst, (theirs - torch.tensor(rollout["log_probs"])).abs().max().item())
print(f"{sum(len(r['tokens']) for r in rollouts)} tokens, largest difference {worst:.2e}")
sys.exit(0 if worst <= args.tolerance else 1)
