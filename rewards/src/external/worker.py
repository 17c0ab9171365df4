"""Runs somebody's reward function, unchanged, for a program that speaks JSON lines.

The first line says which function; the answer is {"ready": ...} or {"error": traceback}. Each further line is
{"samples": [...], "columns": [...]}; the answer is {"rewards": [...]}, one entry for each sample (null, a number,
or an object), or {"error": ...} if the call failed as a whole.
"""

import fcntl
import importlib.util
import inspect
import json
import math
import os
import reprlib
import signal
import sys
import threading
import time
import traceback

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
WANTED = (
    "wanted `completions` (TRL), `solution_str` and `ground_truth` (verl) or exactly one required parameter (a sample)"
)


class Wrong(Exception):
    """Something that needs no traceback to be understood."""


def private(fd, mode):
    """Moves a stream out of the way of whatever the function prints or reads, C code included."""
    stream = os.fdopen(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 60), mode)
    if mode == "rb":
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, fd)
        os.close(null)
    else:
        os.dup2(2, fd)
    return stream


def load(path):
    folder, name = os.path.split(path)
    sys.path.insert(0, folder)
    sys.argv = [path]
    stem = os.path.splitext(name)[0]
    if not stem.isidentifier() or stem in sys.modules:
        stem = "reward_file_" + "".join(c if c.isalnum() else "_" for c in stem)
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None or not os.path.isfile(path):
        raise Wrong("no Python file `%s`" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module  # dataclasses and pickle look there
    spec.loader.exec_module(module)
    return module


def style_of(function):
    """The style that a signature tells, or None."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    if "completions" in parameters:
        return "trl"
    if "solution_str" in parameters and "ground_truth" in parameters:
        return "verl"
    required = [p for p in parameters.values() if p.default is p.empty and p.kind in POSITIONAL]
    keywords = [p for p in parameters.values() if p.default is p.empty and p.kind == p.KEYWORD_ONLY]
    return "sample" if len(required) == 1 and not keywords else None


def choose(module, path, wanted, style):
    own = {
        name: value
        for name, value in vars(module).items()
        if inspect.isroutine(value) and getattr(value, "__module__", None) == module.__name__
    }
    if wanted:
        function = getattr(module, wanted, None)
        if not callable(function):
            there = ", ".join("`%s`" % name for name in own) or "none"
            raise Wrong("no function `%s` in `%s`; its functions: %s" % (wanted, path, there))
        return wanted, function
    public = {name: f for name, f in own.items() if not name.startswith("_")}
    for kinds in (("trl", "verl"), ("sample",)):
        fit = [name for name, f in public.items() if style_of(f) in kinds and style in ("auto", style_of(f))]
        if kinds == ("sample",) and "reward" in fit:
            fit = ["reward"]  # the other functions of one parameter are its helpers
        if len(fit) == 1:
            return fit[0], public[fit[0]]
        if fit:
            names = ", ".join("`%s`" % name for name in fit)
            raise Wrong("`%s` has several reward functions: %s; name one as `function`" % (path, names))
    there = ", ".join("`%s%s`" % (name, signature_of(f)) for name, f in own.items()) or "no function"
    raise Wrong("no reward function in `%s`: found %s; %s" % (path, there, WANTED))


def signature_of(function):
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(...)"


class Sample(dict):
    """A sample: its parts as attributes and as entries; columns of the dataset too, if no part has the name."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError("the sample has no %s; it has %s" % (name, ", ".join(self))) from None


class NoState:
    """In place of TRL's trainer state: a reward here must not depend on the step."""

    def __getattr__(self, name):
        raise AttributeError("there is no trainer state, so no `%s`: a reward must not depend on the step" % name)


def log_extra(name, values):
    print("log_extra %s: %s" % (name, reprlib.repr(values)), file=sys.stderr)


def log_metric(name, value):
    print("log_metric %s: %s" % (name, reprlib.repr(value)), file=sys.stderr)


class Reward:
    """The function in its style: a call's samples in, entries of the answer out."""

    def __init__(self, name, function, style, args):
        self.name, self.function, self.args = name, function, args
        if style == "auto":
            style = style_of(function)
            if style is None:
                raise Wrong("found `%s%s`; %s" % (name, signature_of(function), WANTED))
        self.call = {"trl": self.trl, "verl": self.verl, "sample": self.sample}[style]
        self.style = style
        try:
            self.parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            raise Wrong("`%s` tells no signature" % name) from None
        self.takes_all = any(p.kind == p.VAR_KEYWORD for p in self.parameters.values())
        for arg in args:
            if not self.takes(arg):
                raise Wrong("args has `%s`, which `%s%s` does not take" % (arg, name, signature_of(function)))
        self.loop = None

    def takes(self, name):
        parameter = self.parameters.get(name)
        return self.takes_all if parameter is None else parameter.kind != parameter.POSITIONAL_ONLY

    def keywords(self, available):
        """Of what there is, what the function takes; then the recipe's own arguments."""
        chosen = {name: value for name, value in available.items() if self.takes(name)}
        chosen.update(self.args)
        for p in self.parameters.values():
            if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in chosen:
                there = ", ".join("`%s`" % name for name in available)
                raise Wrong("`%s` wants `%s`; there is %s" % (self.name, p.name, there))
        return chosen

    def finish(self, results):
        """Awaits what is awaitable, all together. An exception takes the place of its result."""
        waiting = [i for i, result in enumerate(results) if inspect.isawaitable(result)]
        if waiting:
            import asyncio  # only here: it takes as long as all else together

            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                asyncio.set_event_loop(self.loop)

            async def all_of():
                return await asyncio.gather(*(results[i] for i in waiting), return_exceptions=True)

            for i, result in zip(waiting, self.loop.run_until_complete(all_of())):
                results[i] = result
        return results

    def trl(self, samples, columns):
        available = {"prompts": [s["prompt"] for s in samples]}
        available["completions"] = [
            s["completion"] if isinstance(s["prompt"], str) else [{"role": "assistant", "content": s["completion"]}]
            for s in samples
        ]
        available["completion_ids"] = [s["token_ids"] for s in samples]
        for name in columns:
            available[name] = [s["fields"].get(name) for s in samples]
        for name in ("answer", "ground_truth"):
            available.setdefault(name, [s["answer"] for s in samples])
        available.update(trainer_state=NoState(), log_extra=log_extra, log_metric=log_metric)
        (values,) = self.finish([self.function(**self.keywords(available))])
        if isinstance(values, BaseException):
            raise values
        if hasattr(values, "tolist"):
            values = values.tolist()
        if isinstance(values, (str, bytes, dict)) or not hasattr(values, "__iter__"):
            values = "returned %s, wanted a list of %d numbers or None" % (told(values), len(samples))
            return [{"failure": values}] * len(samples)
        values = list(values)
        if len(values) != len(samples):
            values = "returned %d values, wanted %d" % (len(values), len(samples))
            return [{"failure": values}] * len(samples)
        return [judged(value) for value in values]

    def each(self, samples, call):
        results = []
        for sample in samples:
            try:
                results.append(call(sample))
            except BaseException as error:
                results.append(error)
        return [failed(r) if isinstance(r, BaseException) else judged(r) for r in self.finish(results)]

    def verl(self, samples, columns):
        def call(sample):
            fields = sample["fields"]
            model, source = fields.get("reward_model"), fields.get("data_source")
            truth = model.get("ground_truth") if isinstance(model, dict) else None
            available = {
                "data_source": source if source is not None else prefix(sample["id"]),
                "solution_str": sample["completion"],
                "ground_truth": truth if truth is not None else sample["answer"],
                "extra_info": fields["extra_info"] if fields.get("extra_info") is not None else fields,
            }
            return self.function(**self.keywords(available))

        return self.each(samples, call)

    def sample(self, samples, columns):
        def call(sample):
            ids = sample.pop("token_ids")
            whole = Sample(sample, tokens=len(ids))
            for name, value in sample["fields"].items():
                whole.setdefault(name, value)
            return self.function(whole, **self.args)

        return self.each(samples, call)


def prefix(name):
    """`gsm8k` of `gsm8k/12` and of `gsm8k:12`."""
    return name.replace(":", "/").split("/")[0]


def told(value):
    try:
        text = reprlib.repr(value)
    except Exception:
        text = "something without a repr"
    return "%s (%s)" % (text, type(value).__name__)


def judged(value):
    """A function's own value as an entry of the answer."""
    others = []
    if isinstance(value, dict):
        if "score" not in value:
            return {"failure": "returned a dict with %s, wanted `score` in it" % (", ".join(map(str, value)) or "nothing")}
        for name, other in value.items():
            if name != "score" and isinstance(other, (bool, int, float)):
                others.append("%s %s" % (name, other))
        value = value["score"]
    if value is None:
        return None
    try:
        number = None if isinstance(value, (str, bytes, bytearray)) else float(value)
    except Exception:
        number = None
    if number is None:
        return {"failure": "returned %s, wanted a number or None" % told(value)}
    if not math.isfinite(number):
        return {"failure": "returned %s, wanted a finite number or None" % number}
    return {"reward": number, "reason": ", ".join(others)} if others else number


def failed(error):
    return {"failure": explained(error)}


def explained(error):
    """The traceback without this file's own part, and not too much of it."""
    if isinstance(error, Wrong):
        return str(error)
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        if not frames.tb_frame.f_code.co_filename.startswith(("<string>", "<frozen importlib")):
            break
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    return "".join(lines).strip()[-4000:]


def end_with(parent):
    """Ends this process and what it started once the program that asks is gone, also while a function hangs."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main():
    requests, answers = private(0, "rb"), private(1, "wb")
    me = os.getpid()
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()

    def answer(what):
        if os.getpid() != me:
            os._exit(0)  # a fork of the function's that came back: only one may answer
        line = json.dumps(what, ensure_ascii=False, allow_nan=False) + "\n"
        answers.write(line.encode("utf-8", "replace"))  # half a surrogate pair is no JSON
        answers.flush()

    setup = json.loads(requests.readline())
    try:
        module = load(setup["file"])
        name, function = choose(module, setup["file"], setup["function"], setup["style"])
        reward = Reward(name, function, setup["style"], setup["args"])
    except BaseException as error:
        answer({"error": explained(error)})
        return
    answer({"ready": reward.style, "function": name})
    for line in requests:
        call = json.loads(line)
        try:
            said = {"rewards": reward.call(call["samples"], call["columns"])}
        except BaseException as error:
            said = {"error": explained(error)}
        answer(said)
    os._exit(0)  # threads of the function's must not keep the process


main()
