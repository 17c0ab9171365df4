"""Compares the maths grader with math-verify on answers of published benchmarks.

    pip install "math-verify[antlr4_13_2]==0.9.0"
    python tests/interop/grading.py --evenkeel target/release/evenkeel FILE.jsonl ...

Each file has rows with an `answer`. Every answer is paired with itself written in other ways, with answers that differ in one
thing, and with another answer of its file. Both graders judge each pair; where they differ it is printed, by how the pair was made.
"""

import argparse
import collections
import json
import logging
import random
import re
import subprocess
import tempfile
from pathlib import Path

from math_verify import parse, verify


def variants(gold):
    """Other ways to write an answer, and near misses, each with what was done to it."""
    found = []

    def add(kind, text):
        if text != gold:
            found.append((kind, text))

    add("dfrac", gold.replace("\\frac", "\\dfrac"))
    add("no blanks", re.sub(r"(?<![A-Za-z]) | (?![A-Za-z])", "", gold))
    add("no \\left", gold.replace("\\left", "").replace("\\right", ""))
    add("slash", re.sub(r"\\d?frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2", gold))
    add("no \\text", re.sub(r"\\text\{([^{}]*)\}", r"\1", gold))
    add("no degree", gold.replace("^\\circ", "").replace("^{\\circ}", ""))
    add("dollars", "$" + gold.strip("$") + "$")
    add("parentheses", "\\(" + gold + "\\)")
    add("minus", gold[1:] if gold.startswith("-") else "-" + gold)
    if re.fullmatch(r"-?\d+", gold):
        add("decimal", gold + ".0")
        add("x =", "x=" + gold)
        add("unit", gold + " \\text{ units}")
        add("one more", str(int(gold) + 1))
    fraction = re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\}", gold)
    if fraction:
        above, below = map(int, fraction.groups())
        add("twice", f"\\frac{{{2 * above}}}{{{2 * below}}}")
        add("upside down", f"\\frac{{{below}}}{{{above}}}")
        add("rounded", f"{above / below:.4f}")
    if "," in gold and not re.search(r"[\[\]()\\{]", gold):
        items = [item.strip() for item in gold.split(",")]
        add("reversed", ", ".join(items[::-1]))
        add("one less", ", ".join(items[:-1]))
    pair = re.fullmatch(r"\(([^(),]+),([^(),]+)\)", gold)
    if pair:
        add("swapped", f"({pair[2]},{pair[1]})")
        add("closed", f"[{pair[1]},{pair[2]}]")
    return found


def pairs(files, each, seed):
    random.seed(seed)
    made = []
    for file in files:
        answers = [json.loads(line)["answer"] for line in open(file)]
        answers = [answer for answer in answers if len(answer) < 200]
        for gold in random.sample(answers, min(each, len(answers))):
            ways = variants(gold)
            made += [(kind, gold, text) for kind, text in random.sample(ways, min(2, len(ways)))]
            made.append(("another", gold, random.choice(answers)))
    return made


def ours(program, made):
    with tempfile.TemporaryDirectory() as folder:
        recipe, rows = Path(folder, "recipe.toml"), Path(folder, "rows.jsonl")
        recipe.write_text('[rewards.math]\nextract = "whole"\n')
        rows.write_text("".join(json.dumps({"answer": a, "completion": c}) + "\n" for _, a, c in made))
        command = [program, "reward", rows, "--recipe", recipe, "--json"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line)["reward"] == 1.0 for line in lines]


def theirs(made):
    verdicts = []
    for _, gold, text in made:
        try:
            verdicts.append(bool(verify(parse("\\boxed{" + gold + "}"), parse("\\boxed{" + text + "}"))))
        except Exception:
            verdicts.append(False)
    return verdicts


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("files", nargs="+")
    arguments.add_argument("--evenkeel", required=True, help="the program")
    arguments.add_argument("--each", type=int, default=200, help="answers of a file")
    arguments.add_argument("--seed", type=int, default=0)
    arguments = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    made = pairs(arguments.files, arguments.each, arguments.seed)
    mine, other = ours(arguments.evenkeel, made), theirs(made)
    differ = collections.defaultdict(list)
    for (kind, gold, text), a, b in zip(made, mine, other):
        if a != b:
            differ[kind, "evenkeel" if a else "math-verify"].append((gold, text))
    print(f"{len(made)} pairs, {sum(map(len, differ.values()))} verdicts differ")
    for (kind, who), cases in sorted(differ.items(), key=lambda entry: -len(entry[1])):
        print(f"\n{kind}: {len(cases)} that only {who} takes as the same")
        for gold, text in cases[:10]:
            print(f"    {gold!r} | {text!r}")


if __name__ == "__main__":
    main()
