#!/usr/bin/env python3
"""Feeds the program damaged files and counts what it must never do.

    python3 tests/faults/fuzz.py KIND COUNT SEED [--only INDEX] [--keep FOLDER]

KIND is one of the kinds below, or `all`, which deals COUNT among them. Every mutation follows from kind, seed and index
alone, so that one that failed is made again by `--only INDEX`. Seed inputs are the project's own: its recipes, the tiny
checkpoint, the Parquet files of its tests, and small files written here. The program is taken from the variable EVENKEEL,
by default target/debug/evenkeel. Needs Linux and Python 3.9, and nothing beyond the standard library.

Never allowed: a panic, an abort or another signal, no end within the deadline (FUZZ_SECONDS, 60), more than 6 GiB of
address space (FUZZ_GIB), an exit code other than 0, 1 or 2, a failure without a message, a message of more than 2048
bytes, and a resumed run whose saved state was damaged and whose end differs from that of the undamaged run. Inputs that
did are kept under --keep, by default a new temporary folder. Ends with a line of counts, and exit code 1 if any is not 0.
"""
import argparse
import hashlib
import json
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("EVENKEEL", str(ROOT / "target/debug/evenkeel"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
BYTES = int(float(os.environ.get("FUZZ_GIB", "6")) * (1 << 30))
LONGEST = 2048

NUMBERS = [
    b"0", b"-1", b"1", b"1e308", b"1e999", b"-1e999", b"18446744073709551615", b"18446744073709551616",
    b"9223372036854775807", b"-9223372036854775808", b"4294967295", b"1000000000", b"1e-320", b"nan", b"inf", b"-inf",
    b"0.5", b"99999999999999999999999999", b"null", b"true", b'""', b"[]", b"{}", b'"\\ud800"', b"65536", b"3",
]
WORDS = [
    b'"x"', b'"' + b"a" * 70000 + b'"', b"\xc3\x28", b'"../../../../x"', b'"(a+)+$"', b'"\\u0000"', b'"{{{{"', b'"(((((a{999}){999}){999})"',
]
INSERTS = [
    b"\0", b"\xff\xfe", b'"', b"{", b"}", b"[", b",", b"\n", b"\xe2\x80\xae", b"\xef\xbb\xbf", b"\\", b"-", b"{{", b"{%",
]
# what a file may be instead of itself
OTHERS = [
    b"", b"\n", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", b"<!DOCTYPE html><html>404</html>",
    b"GGUF\x03\0\0\0", b"PK\x03\x04", b"\0" * 4096, b"null", b"[]", b"{}", b"\xff\xfe{\0}\0",
]


def numbers(text):
    return [found.span() for found in re.finditer(rb'(?<![\w"])-?\d+(\.\d+)?([eE][-+]?\d+)?', text)]


def tokens(text):
    return [found.span() for found in re.finditer(rb'"[^"\n]{0,80}"|\w+', text)]


def mutate_text(rng, text):
    """One change of a text file."""
    text = bytearray(text)
    at = rng.randrange(len(text))
    change = rng.choice(
        ["cut", "flip", "insert", "number", "number", "numbers", "nest", "double", "delete", "swap", "token", "bytes", "long", "other"]
    )
    if change == "cut":
        del text[at:]
    elif change == "flip":
        for _ in range(rng.choice([1, 1, 2, 8])):
            text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
    elif change == "insert":
        text[at:at] = rng.choice(INSERTS + [bytes(rng.randrange(256) for _ in range(9))])
    elif change in ("number", "numbers"):
        for _ in range(1 if change == "number" else 3):
            if spans := numbers(bytes(text)):
                begin, end = rng.choice(spans)
                text[begin:end] = rng.choice(NUMBERS)
    elif change == "nest":
        depth = rng.choice([50, 200, 5000, 100000])
        begin_mark, end_mark = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"{", b"}")])
        begin, end = rng.choice(tokens(bytes(text)) or [(at, at)])
        text[begin:end] = begin_mark * depth + b"1" + end_mark * depth
    elif change == "double":
        text[at:at] = text[at : at + rng.randrange(1, 200)]
    elif change == "delete":
        del text[at : at + rng.randrange(1, 60)]
    elif change == "swap":
        spans = tokens(bytes(text))
        if len(spans) > 1:
            first, second = sorted(rng.sample(spans, 2))
            one, other = bytes(text[slice(*first)]), bytes(text[slice(*second)])
            text[slice(*second)] = one
            text[slice(*first)] = other
    elif change == "token":
        if spans := tokens(bytes(text)):
            begin, end = rng.choice(spans)
            text[begin:end] = rng.choice(NUMBERS + WORDS)
    elif change == "bytes":
        for place in range(at, min(len(text), at + rng.randrange(1, 30))):
            text[place] = rng.randrange(256)
    elif change == "long":
        text[at:at] = rng.choice([b"9", b"a", b" ", b"{", b"\\frac{", b"^"]) * rng.choice([1000, 30000])
    else:
        return rng.choice(OTHERS)
    return bytes(text)


def mutate_bytes(rng, data):
    """One change of a binary file."""
    data = bytearray(data)
    at = rng.randrange(len(data))
    change = rng.choice(["cut", "flip", "flip", "insert", "delete", "bytes", "word", "word", "tail", "tail", "other"])
    if change == "cut":
        del data[at:]
    elif change == "flip":
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif change == "insert":
        data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 4, 9])))
    elif change == "delete":
        del data[at : at + rng.randrange(1, 64)]
    elif change == "bytes":
        for place in range(at, min(len(data), at + rng.randrange(1, 30))):
            data[place] = rng.randrange(256)
    elif change == "word":
        place = rng.randrange(max(1, len(data) - 4))
        data[place : place + 4] = struct.pack("<I", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 255, 65535]))
    elif change == "tail":
        place = rng.randrange(max(0, len(data) - 1500), len(data))
        data[place] = rng.choice([0, 255, 0x7F, 0x80, 1, data[place] ^ 1])
    else:
        return rng.choice(OTHERS)
    return bytes(data)


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)


def run(arguments, folder):
    """Exit code (None for no end), standard output, standard error."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EVENKEEL_")}
    environment |= {"RUST_BACKTRACE": "0", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "no-cache")}
    process = subprocess.Popen(
        [BINARY, *arguments], cwd=folder, env=environment, preexec_fn=limit, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )
    try:
        out, error = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return None, b"", b""
    return process.returncode, out, error


def must(arguments, folder):
    code, _, error = run(arguments, folder)
    if code != 0:
        sys.exit(f"`evenkeel {' '.join(arguments)}` should have worked: {code} {error.decode(errors='replace')}")


REWARDS = "[rewards.math]\n[rewards.format]\nboxed = true\nweight = 0.1\n"
DATA_RECIPE = """[policy]
checkpoint = "tiny"
[data.{kind}]
path = "{path}"
[rewards.exact_match]
[rl]
steps = 1
prompts_per_step = 2
group_size = 2
truncated = "keep"
[rl.sampling]
max_tokens = 4
"""
BENCHMARK = """name = "sums"
take = 4
[data.arithmetic]
[rewards.exact_match]
[sampling]
temperature = 0.0
max_tokens = 8
"""
ROWS = "".join(
    json.dumps({"id": f"q{n}", "question": f"{n}+{n}=", "answer": str(2 * n), "level": n % 3, "tags": ["a", "é"], "meta": {"x": [n, None]}}) + "\n"
    for n in range(8)
).encode()
COMPLETIONS = "".join(
    json.dumps({"prompt": f"{n}/7", "answer": f"\\frac{{{n}}}{{7}}", "completion": f"so \\boxed{{\\frac{{{n}}}{{7}}}}, {n}.5e3"}) + "\n"
    for n in range(4)
).encode()
TEMPLATE = b"""{%- for m in messages %}{% generation %}
{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] | trim + '%s' % '<|im_end|>' }}{% endgeneration %}
{%- endfor %}{% set n = namespace(x=3) %}{% for i in range(3) %}{% set n.x = n.x * 2 %}{{ messages | tojson(indent=n.x) }}{% endfor %}
{%- macro f(x) %}{{ x ~ x }}{% endmacro %}{{ f('a') * 3 }}{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"""
PARQUET = ["rows_none", "rows_snappy", "rows_zstd", "rows_gzip", "rows_lz4", "kinds"]
RECIPES = ["tiny.toml", "tiny-think.toml", "tiny-bvpo.toml", "tiny-warmup.toml", "tiny-preset.toml"]
SHORT = ["rl.steps=6", "save.every=2", "save.keep=3", "eval.every=100", "eval.prompts=4", "rl.prompts_per_step=2", "rl.group_size=4"]


class Fuzz:
    def __init__(self, work, keep, seed):
        self.work, self.keep, self.seed = work, keep, seed
        self.made = {}
        self.count = {name: 0 for name in ["panics", "hangs", "aborts", "wrong codes", "damaged states accepted", "long messages"]}

    def once(self, name, make):
        """A folder that several mutations start from."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    # what one mutation of each kind is: the file that was damaged and the command that reads it

    def recipe(self, rng, folder):
        text = (ROOT / "recipes" / rng.choice(RECIPES)).read_text()
        text = text.replace("{preset}", "grpo").replace("{about}", "a run")
        (folder / "m.toml").write_bytes(mutate_text(rng, text.encode()))
        return folder / "m.toml", ["check", "m.toml"]

    def set(self, rng, folder):
        text = rng.choice(SHORT + ['rl.objective={grpo={clip_low=0.2}}', "policy.checkpoint=tiny", 'rl.sampling.stop=["x"]'])
        value = mutate_text(rng, text.encode()).replace(b"\0", b"")[:100000]
        (folder / "set.txt").write_bytes(value)
        return folder / "set.txt", ["check", "tiny", b"--set=" + value]

    def data(self, rng, folder):
        (folder / "m.jsonl").write_bytes(mutate_text(rng, ROWS))
        (folder / "r.toml").write_text(DATA_RECIPE.format(kind="jsonl", path="m.jsonl"))
        return folder / "m.jsonl", ["check", "r.toml"]

    def parquet(self, rng, folder):
        data = (ROOT / "data/tests/fixtures" / (rng.choice(PARQUET) + ".parquet")).read_bytes()
        (folder / "m.parquet").write_bytes(mutate_bytes(rng, data))
        (folder / "r.toml").write_text(DATA_RECIPE.format(kind="parquet", path="m.parquet"))
        return folder / "m.parquet", ["check", "r.toml"]

    def completions(self, rng, folder):
        (folder / "m.jsonl").write_bytes(mutate_text(rng, COMPLETIONS))
        (folder / "r.toml").write_text(REWARDS)
        return folder / "m.jsonl", ["reward", "m.jsonl", "-r", "r.toml"]

    def benchmark(self, rng, folder):
        (folder / "b.toml").write_bytes(mutate_text(rng, BENCHMARK.encode()))
        return folder / "b.toml", ["eval", "tiny", "--bench", "b.toml", "--limit", "2", "--max-tokens", "4", "--out", "ev"]

    def checkpoint(self, folder):
        shutil.copytree(ROOT / "recipes/tiny", folder / "m")
        return folder / "m"

    def sample(self, rng):
        prompt = rng.choice(["1+2=", "a" * 40 + "!", "é <|im_start|>"])
        return ["sample", "m", "-p", prompt, "--max-tokens", "4"] + rng.choice([[], ["--chat"]])

    def json_of_checkpoint(self, rng, folder, name):
        file = self.checkpoint(folder) / name
        file.write_bytes(mutate_text(rng, file.read_bytes()))
        return file, self.sample(rng)

    def config(self, rng, folder):
        return self.json_of_checkpoint(rng, folder, "config.json")

    def tokenizer(self, rng, folder):
        file = self.checkpoint(folder) / "tokenizer.json"
        value = json.loads(file.read_text())
        double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
        hostile = {"type": "Replace", "pattern": {"Regex": rng.choice(["(a+)+$", "(a|a)*b", "(.*)*x", "a*a*a*a*b"])}, "content": "x"}
        change = rng.randrange(8)
        if change == 0:
            value["normalizer"] = {"type": "Sequence", "normalizers": [double] * rng.choice([2, 12, 30])}
        elif change == 1:
            value["normalizer"] = hostile
        elif change == 2:
            split = {"type": "Split", "pattern": hostile["pattern"], "behavior": "Isolated", "invert": False}
            value["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, value["pre_tokenizer"]]}
        elif change == 3:
            value["decoder"] = {"type": "Sequence", "decoders": [value["decoder"]] + [double] * rng.choice([2, 30])}
        file.write_text(json.dumps(value, indent=rng.choice([None, 1])))
        if change >= 3:
            file.write_bytes(mutate_text(rng, file.read_bytes()))
        return file, self.sample(rng)

    def tokenizer_config(self, rng, folder):
        return self.json_of_checkpoint(rng, folder, "tokenizer_config.json")

    def generation_config(self, rng, folder):
        return self.json_of_checkpoint(rng, folder, "generation_config.json")

    def template(self, rng, folder):
        file = self.checkpoint(folder) / "chat_template.jinja"
        text = TEMPLATE
        for _ in range(rng.choice([1, 1, 2, 3])):
            text = mutate_text(rng, text) or b" "
        file.write_bytes(text)
        return file, ["sample", "m", "-p", "1+2=", "--max-tokens", "4", "--chat"]

    def header(self, rng, folder):
        file = self.checkpoint(folder) / "model.safetensors"
        data = file.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header, numbers = data[8 : 8 + size], data[8 + size :]
        change = rng.randrange(5)
        if change == 0:
            claims = [0, 1, size - 1, size + 8, 2**63, 2**64 - 1, 100_000_000, 100_000_001, 2**32]
            data = struct.pack("<Q", rng.choice(claims)) + header + numbers
        elif change == 1:
            data = data[: rng.randrange(len(data))]
        elif change == 2:
            data = rng.choice(OTHERS)
        else:
            changed = mutate_text(rng, header)
            data = struct.pack("<Q", len(changed) if change == 3 else size) + changed + numbers
        file.write_bytes(data)
        return file, self.sample(rng)

    def evaluation(self, rng, folder):
        def make():
            origin = self.work / "evaluations"
            origin.mkdir()
            (origin / "b.toml").write_text(BENCHMARK)
            for name in ["one", "two"]:
                must(["eval", "tiny", "--bench", "b.toml", "--out", name], origin)
            return origin

        origin = self.once("evaluations", make)
        for name in ["one", "two"]:
            shutil.copytree(origin / name, folder / name)
        file = folder / "one/evaluation.json"
        file.write_bytes(mutate_text(rng, file.read_bytes()))
        return file, ["compare", "one", "two"]

    def finished(self):
        def make():
            sets = [part for text in SHORT for part in ("--set", text)]
            must(["train", "tiny", *sets, "--out", "run"], self.work)
            return self.work / "run"

        return self.once("run", make)

    def metrics(self, rng, folder):
        shutil.copytree(self.finished(), folder / "one", ignore=shutil.ignore_patterns("checkpoints", "rollouts"))
        file = folder / "one/metrics.jsonl"
        file.write_bytes(mutate_text(rng, file.read_bytes()))
        return file, ["compare", "one", str(self.finished())]

    def state(self, rng, folder):
        """A run that was interrupted after its second last checkpoint, with one file of its state damaged."""
        shutil.copytree(self.finished(), folder / "run")
        checkpoints = folder / "run/checkpoints"
        steps = sorted(path for path in checkpoints.iterdir() if path.is_dir() and path.name.startswith("step-"))
        shutil.rmtree(steps[-1])
        latest = checkpoints / "latest"
        latest.write_text(latest.read_text().replace(steps[-1].name, steps[-2].name))
        files = [path for path in steps[-2].rglob("*") if path.is_file()] + [latest, folder / "run/metrics.jsonl"]
        file = rng.choice(sorted(files))
        data = file.read_bytes()
        mutate = mutate_bytes if file.suffix in (".safetensors", ".zst") else mutate_text
        file.write_bytes(mutate(rng, data) if data else b"x")
        return file, ["train", "--resume", "run"]

    def same_end(self, folder):
        """Whether the run in `folder` ended with the weights that the undamaged one ended with."""

        def digest(run):
            steps = sorted((run / "checkpoints").glob("step-*"))
            weights = sorted(steps[-1].glob("*.safetensors")) if steps else []
            return [(path.parent.name, path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in weights]

        return digest(folder / "run") == digest(self.finished())

    def fault(self, kind, name, file, note, index):
        self.count[name] += 1
        kept = self.keep / f"{kind}-{self.seed}-{index}-{name.replace(' ', '-')}-{file.name}"
        if file.exists() and file.is_file():
            shutil.copy(file, kept)
        print(f"{kind} {index}: {name}: {note} ({kept})", flush=True)

    def case(self, kind, index):
        rng = random.Random(f"{kind}-{self.seed}-{index}")
        folder = Path(tempfile.mkdtemp(dir=self.work))
        try:
            file, arguments = getattr(self, kind)(rng, folder)
            code, _, error = run(arguments, folder)
            text = error.decode(errors="replace")
            last = text[-300:]
            if code is None:
                self.fault(kind, "hangs", file, f"no end after {SECONDS:.0f} s", index)
            elif code == 101 or "panicked at" in text:
                self.fault(kind, "panics", file, last, index)
            elif code < 0 or code > 128:
                self.fault(kind, "aborts", file, f"exit code {code} {last}", index)
            elif code not in (0, 1, 2) or (code != 0 and not text.strip()):
                self.fault(kind, "wrong codes", file, f"exit code {code} {last}", index)
            elif code == 1 and "invalid recipe" in text:
                self.fault(kind, "wrong codes", file, f"exit code 1 for a mistake in the recipe: {last}", index)
            elif code != 0 and len(error) > LONGEST:
                self.fault(kind, "long messages", file, f"{len(error)} bytes: {text[:200]}", index)
            elif kind == "state" and code == 0 and not self.same_end(folder):
                self.fault(kind, "damaged states accepted", file, f"{file.relative_to(folder)} was damaged", index)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


KINDS = [
    "recipe", "set", "data", "parquet", "completions", "benchmark", "config", "tokenizer", "tokenizer_config",
    "generation_config", "template", "header", "evaluation", "metrics", "state",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--only", type=int, metavar="INDEX", help="make this mutation alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where inputs that failed are kept")
    options = parser.parse_args()
    kinds = KINDS if options.kind == "all" else [options.kind]
    keep = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-kept-"))
    keep.mkdir(parents=True, exist_ok=True)
    keep = keep.resolve()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        fuzz = Fuzz(Path(work).resolve(), keep, options.seed)
        cases = [(kinds[place % len(kinds)], place // len(kinds)) for place in range(options.count)]
        if options.only is not None:
            cases = [(kind, options.only) for kind in kinds]
        for done, (kind, index) in enumerate(cases, 1):
            fuzz.case(kind, index)
            if done % 500 == 0:
                print(f"{done} of {len(cases)}", file=sys.stderr, flush=True)
    counts = ", ".join(f"{number} {name}" for name, number in fuzz.count.items())
    print(f"{len(cases)} mutations, {counts}")
    if not any(keep.iterdir()):
        keep.rmdir()
    return 1 if any(fuzz.count.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
