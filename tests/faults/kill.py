#!/usr/bin/env python3
"""Stops training runs at arbitrary moments, lets them go on, and compares them with runs that were never stopped.

    cc -shared -fPIC -O2 tests/faults/shim.c -o /tmp/shim.so -ldl
    cargo build --release
    python3 tests/faults/kill.py --program target/release/evenkeel --shim /tmp/shim.so --sequences 300

Needs Python 3 and nothing else. Each of eleven variants (recipes that keep different state: a KL reference, rollouts sampled
ahead, several updates a step, the best checkpoint, two stages, pairs ...) is trained once undisturbed. Then sequences of faults
follow, spread evenly over the variants (and over --kinds):

    random      ended by SIGKILL after a random amount of processor time, up to three times in a row
    operation   ended before a random file operation
    torn        the same, and a write is done by half
    full        from a random file operation on there is no room on the disk, for a while or for good

After each fault `train --resume` goes on, or the run starts anew if the fault came before its folder was there. In the end its
folder must equal the undisturbed one in every file: weights, moments, state, rollouts, evaluations, best.json, warnings, and
metrics but for what depends on the clock. Nothing half written may be left. A run that cannot go on, a difference, a lost best
checkpoint or a leftover is printed with what repeats it (--variant, --seed), and the exit code is 1. The last line sums up:

    300 sequences, 0 differences, 0 unresumable, best kept, no leftovers
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile


def sets(*values):
    return [part for value in values for part in ("--set", value)]


SHORT = sets("rl.steps=12", "save.every=3", "eval.every=4", "eval.prompts=6", "rl.prompts_per_step=2", "rl.group_size=4")
VARIANTS = {
    "plain": ["tiny", *SHORT],
    "oblr": ["tiny-oblr", *SHORT, *sets('rl.baseline={optimal={weights="full",mode="leave_one_out",shrink=2.0}}')],
    "dapo": ["tiny-dapo", *SHORT],
    "think": ["tiny-think", *SHORT, *sets("sft.steps=5", "sft.batch_size=4", "rl.steps=6", "rl.sampling.max_tokens=12")],
    "overlap": ["tiny", *SHORT, *sets("rl.overlap=1", "rl.correction={}")],
    "kl": ["tiny-grpo", *SHORT],
    "mini": ["tiny", *SHORT, *sets("rl.epochs=2", "rl.mini_batches=2")],
    "best": ["tiny", *SHORT, *sets('save.best="eval_accuracy"', "save.keep=1", "eval.every=2")],
    "history": ["tiny-reinforce", *SHORT],
    "f32": ["tiny", *SHORT, *sets('save.dtype="f32"')],
    "bvpo": ["tiny-bvpo", *sets("save.every=4", "eval.prompts=6", "eval.every=6", "sft.steps=6", "sft.batch_size=4")],
}
KINDS = ["random", "operation", "torn", "full"]
# what depends on the clock
TIMED = ("seconds",)


def timeless(value):
    """A JSON value without what depends on the clock."""
    if isinstance(value, dict):
        clock = lambda key: any(part in key for part in TIMED) or key.endswith("per_second")
        return {key: timeless(part) for key, part in value.items() if not clock(key)}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def contents(file):
    """The digest of a file of a run."""
    data = file.read_bytes()
    if file.suffix == ".jsonl":
        lines = [json.dumps(timeless(json.loads(line)), sort_keys=True) for line in data.splitlines()]
        data = "\n".join(lines).encode()
    elif file.suffix == ".json" and file.parent.name == "evaluations":
        data = json.dumps(timeless(json.loads(data)), sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def digest(run):
    files = sorted(path for path in run.rglob("*") if path.is_file())
    return {str(path.relative_to(run)): contents(path) for path in files}


def leftovers(run):
    bad = lambda name: name.endswith((".part", ".old", ".removed")) or name.startswith(".tmp")
    found = [str(path.relative_to(run.parent)) for path in run.rglob("*") if bad(path.name)]
    beside = [path.name for path in run.parent.iterdir() if bad(path.name)]
    return found + beside


class Variant:
    """A recipe, and its undisturbed run."""

    def __init__(self, name, arguments, work):
        self.name, self.arguments = name, arguments
        self.folder = work / name
        self.folder.mkdir(parents=True)
        log = self.folder / "operations"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code, _, errors = self.call(["train", *VARIANTS[name], "--out", "whole"], {"FAULT_LOG": str(log)})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if code:
            sys.exit(f"{name}: the undisturbed run failed: {errors}")
        self.cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
        self.operations = len(log.read_text().splitlines())
        log.unlink()
        self.whole = digest(self.folder / "whole")

    def call(self, command, fault, threads=1):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        if fault:
            environment |= {"LD_PRELOAD": str(self.arguments.shim), "FAULT_PROGRAM": self.arguments.program.name, **fault}
        process = subprocess.run(
            [self.arguments.program, *command],
            cwd=self.folder, env=environment, capture_output=True, timeout=self.arguments.deadline,
        )
        return process.returncode, process.stdout.decode(errors="replace"), process.stderr.decode(errors="replace")

    def fault(self, kind, draw):
        at = draw.randint(1, self.operations)
        match kind:
            case "random":
                return {"FAULT_CPU": str(max(8, int(1000 * self.cpu * draw.random())))}
            case "operation":
                return {"FAULT_KILL": str(at)}
            case "torn":
                return {"FAULT_KILL": str(at), "FAULT_TORN": "1"}
            case "full":
                count = draw.choice(["1", "3", "40", "1000000"])
                return {"FAULT_FAIL": str(at), "FAULT_COUNT": count, "FAULT_ERRNO": "28"}

    def sequence(self, kind, draw):
        """What is wrong after one sequence of faults; none of it is, if it is empty."""
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        faults, wanted = [], draw.choice([1, 1, 2, 3])
        for attempt in range(wanted + 2):
            fault = self.fault(kind, draw) if len(faults) < wanted else {}
            new = not run.exists()
            command = ["train", *VARIANTS[self.name], "--out", "run"] if new else ["train", "--resume", "run"]
            try:
                code, _, errors = self.call(command, fault, draw.choice([1, 1, 2, 3]))
            except subprocess.TimeoutExpired:
                return {"unresumable": f"{faults}: no end within {self.arguments.deadline} s"}
            faults.append(fault)
            if code == 0:
                break
            # a fault ends the process or makes it fail with a message, and never makes it panic
            if not fault or code not in (-9, 1) or "panicked" in errors:
                return {"unresumable": f"{faults}: exit code {code}: {errors[-400:]}"}
        else:
            return {"unresumable": f"{faults}: never ended"}
        found = digest(run)
        wrong = {}
        differ = sorted(name for name in self.whole.keys() | found.keys() if self.whole.get(name) != found.get(name))
        if differ:
            wrong["different"] = f"{faults}: {', '.join(differ)}"
        best = run / "checkpoints/best.json"
        if best.exists() and not (run / "checkpoints" / json.loads(best.read_text())["checkpoint"] / "state.json").exists():
            wrong["best"] = f"{faults}: {best.read_text()}"
        if leftovers(run):
            wrong["leftovers"] = f"{faults}: {leftovers(run)}"
        return wrong


def main():
    about, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=about, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True, help="the binary evenkeel")
    parser.add_argument("--shim", type=pathlib.Path, required=True, help="shim.c, compiled")
    parser.add_argument("--sequences", type=int, default=300, help="in all (default 300)")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="only this one; may be given several times")
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deadline", type=float, default=900, help="seconds for one process")
    parser.add_argument("--work", type=pathlib.Path, help="an empty folder; runs that went wrong stay there")
    arguments = parser.parse_args()
    arguments.program, arguments.shim = arguments.program.resolve(), arguments.shim.resolve()
    work = (arguments.work or pathlib.Path(tempfile.mkdtemp(prefix="faults-"))).resolve()
    names = arguments.variant or list(VARIANTS)
    count = {"different": 0, "unresumable": 0, "best": 0, "leftovers": 0}
    done = 0
    for place, name in enumerate(names):
        variant = Variant(name, arguments, work)
        share = arguments.sequences * (place + 1) // len(names) - arguments.sequences * place // len(names)
        for number in range(share):
            kind = arguments.kinds[number % len(arguments.kinds)]
            wrong = variant.sequence(kind, random.Random(f"{arguments.seed} {name} {number}"))
            done += 1
            for what, text in wrong.items():
                count[what] += 1
                print(f"{name} {number} ({kind}, seed {arguments.seed}): {what}: {text}", flush=True)
            if wrong and (variant.folder / "run").exists():
                shutil.copytree(variant.folder / "run", variant.folder / f"wrong-{number}", dirs_exist_ok=True)
        print(f"{name}: {share} sequences, {variant.operations} file operations, {variant.cpu:.1f} s", flush=True)
    best = "best kept" if not count["best"] else f"{count['best']} lost the best"
    left = "no leftovers" if not count["leftovers"] else f"{count['leftovers']} with leftovers"
    print(f"{done} sequences, {count['different']} differences, {count['unresumable']} unresumable, {best}, {left}")
    if any(count.values()):
        sys.exit(1)
    if not arguments.work:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
