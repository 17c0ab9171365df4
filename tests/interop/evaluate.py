"""Evaluates the checkpoint that `evenkeel eval` evaluated, on the same questions, with transformers and math-verify.

    pip install torch "transformers>=4.51" math-verify==0.9.0 zstandard
    python tests/interop/evaluate.py CHECKPOINT RUN/samples/MODEL/BENCHMARK.jsonl ... --texts texts.jsonl [--json figures.json]

Each file holds the scored rollouts of one benchmark; settings and time are taken from RUN/parts/MODEL/BENCHMARK.json if it is
there. Prompts are rendered again from their messages and compared token by token. Greedy texts are written again by transformers
in f32, or in bf16 with `--dtype bf16`: `--way follow` takes our completion as a draft and goes on from the first token that transformers would not have written,
`--way generate` calls generate() as its users do and is timed. Texts that were drawn are not written again but judged again.
math-verify judges, and both verdicts are compared.

A run that was killed goes on: texts are appended to --texts as they come. Exit code 0: the verdicts agree on 99 % of the equal
texts, and our accuracy lies in the 95 % interval of theirs; 1: they do not; 2: the input is not what it should be.
"""

import argparse
import hashlib
import io
import json
import logging
import math
import sys
import time
from pathlib import Path

AGREEMENT = 0.99
POSITIONS = 128  # whose logits are held at once
TOKENS = 4096  # of prompts and completions in one forward pass, padding included


class Bad(Exception):
    """The input is not what it should be."""


# Samples


def lines(file):
    try:
        if file.suffix == ".zst":
            import zstandard

            raw = zstandard.ZstdDecompressor().stream_reader(open(file, "rb"), read_across_frames=True)
        else:
            raw = open(file, "rb")
        with io.TextIOWrapper(raw, encoding="utf-8") as text:
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield f"{file} line {number}", json.loads(line)
    except OSError as error:
        raise Bad(f"cannot read {file}: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise Bad(f"{file} is not JSON lines: {error}") from error


def settings(file):
    """How the samples came about, as far as the folder of the evaluation tells."""
    part = file.absolute().parent.parent.parent / "parts" / file.parent.absolute().name / (file.name.split(".jsonl")[0] + ".json")
    told = json.loads(part.read_text()) if part.exists() else {}
    protocol, cost = told.get("protocol", {}), told.get("cost", {})
    sampled_at_once = cost and not cost.get("samples_before")
    return {"sampling": protocol.get("sampling", {}), "enable_thinking": protocol.get("enable_thinking"),
            "computed": told.get("model", {}).get("computed"),
            "seconds": cost["seconds"] - cost.get("judging_seconds", 0.0) if sampled_at_once else None}


def sample(place, line, part):
    try:
        rollout, score = line["rollout"], line["score"]
        prompt = rollout["prompt"]
        (verdict,) = [each for each in score["parts"] if each["name"] == part]
        return {
            "where": place, "id": prompt["id"], "place": rollout.get("place", 0), "gold": prompt["answer"],
            "body": prompt["body"], "thinking": prompt.get("fields", {}).get("enable_thinking"),
            "prompt": rollout["prompt_tokens"], "tokens": rollout["tokens"], "text": rollout["text"].rstrip(),
            "log_probs": rollout["log_probs"], "stop": rollout["stop"], "value": verdict["value"],
            "right": verdict["value"] == 1.0, "answer": verdict.get("answer"),
            "reason": verdict.get("failure") or verdict.get("reason"),
        }
    except (KeyError, TypeError) as error:
        raise Bad(f"{place} is no scored rollout: {error!r} is missing") from error
    except ValueError as error:
        raise Bad(f"{place} has not one part {part!r} in its score but {[p['name'] for p in score['parts']]}") from error


def load(file, arguments):
    """The samples of a file, of --limit questions: those with the smallest hash, so that fewer are a part of more and the
    order in which they were finished does not matter."""
    latest = {}  # a sample may come twice, first without its score
    for place, line in lines(file):
        try:
            latest[line["rollout"]["prompt"]["id"], line["rollout"].get("place", 0)] = place, line
        except (KeyError, TypeError) as error:
            raise Bad(f"{place} is no scored rollout: {error!r} is missing") from error
    every = [sample(place, line, arguments.part) for place, line in latest.values()]
    judged = [row for row in every if row["gold"] and row["gold"].strip()]
    if not judged:
        raise Bad(f"{file} has no sample with an answer")
    digest = {row["id"]: hashlib.sha256(row["id"].encode()).digest() for row in judged}
    chosen = set(sorted(digest, key=digest.get)[: arguments.limit])
    told = settings(file)
    certain = all(row["log_probs"] and not any(row["log_probs"]) for row in every)
    greedy = told["sampling"].get("temperature", 0.0 if certain else 1.0) == 0.0
    rows = [row for row in judged if row["id"] in chosen]
    return {"file": file, "all": every, "rows": rows, "unanswered": len(every) - len(judged), "greedy": greedy, **told}


def budget(made, arguments):
    """Longest completion, in tokens."""
    cut = max((len(row["tokens"]) for row in made["all"] if row["stop"] == "length"), default=None)
    told = arguments.max_tokens or made["sampling"].get("max_tokens") or cut
    if told is None:
        raise Bad(f"{made['file']} does not tell the longest completion: say --max-tokens")
    longest = max(len(row["tokens"]) for row in made["all"])
    if longest > told or (cut is not None and cut != told):
        raise Bad(f"{made['file']} was not sampled with --max-tokens {told}: a completion has {longest} tokens, cut at {cut}")
    if any(row["stop"] == "text" for row in made["rows"]):
        raise Bad(f"{made['file']} has completions that a stop text ended, which transformers would not end there")
    plain = {"repetition_penalty": 1.0, "min_tokens": 0}
    changed = {name: made["sampling"][name] for name in plain if made["sampling"].get(name, plain[name]) != plain[name]}
    if changed:
        raise Bad(f"{made['file']} was not sampled plainly: {changed}")
    return told


# Texts


class Peer:
    """The checkpoint in transformers: greedy, with no other setting of generation_config.json."""

    def __init__(self, folder, writes, dtype):
        import torch
        import transformers
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.torch, begun = torch, time.time()
        self.versions = {"torch": torch.__version__, "transformers": transformers.__version__, "threads": torch.get_num_threads(),
                         "dtype": dtype}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            if not writes:
                return
            numbers = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
            self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=numbers, attn_implementation="sdpa").eval()
        except (OSError, ValueError) as error:
            raise Bad(f"transformers cannot load {folder}: {error}") from error
        named = [self.model.config.eos_token_id, self.model.generation_config.eos_token_id, self.tokenizer.eos_token_id]
        self.stops = sorted({id for each in named for id in (each if isinstance(each, list) else [each]) if id is not None})
        self.pad = self.stops[0] if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        # generate() fills what it is not told from the model's own settings, a repetition penalty too: so they are replaced
        self.model.generation_config = GenerationConfig(do_sample=False, eos_token_id=self.stops, pad_token_id=self.pad)
        self.versions |= {"stop_tokens": self.stops, "load_seconds": time.time() - begun}

    def render(self, row, thinking):
        """The prompt's tokens by the tokenizer and chat template of the checkpoint."""
        if "text" in row["body"]:
            text = row["body"]["text"]
        else:
            given = thinking if row["thinking"] is None else row["thinking"]
            known = {} if given is None else {"enable_thinking": given}
            try:
                known |= {"tokenize": False, "add_generation_prompt": True}
                text = self.tokenizer.apply_chat_template(row["body"]["chat"], **known)
            except Exception as error:  # whatever a template raises
                raise Bad(f"{row['where']}: the chat template fails: {error}") from error
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def text(self, tokens):
        return self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False).rstrip()

    def generate(self, prompts, budgets):
        """Completions, each cut after its first stop token. A shorter budget cuts the same text: it is greedy."""
        width = max(map(len, prompts))
        ids = [[self.pad] * (width - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        with self.torch.inference_mode():
            out = self.model.generate(input_ids=self.torch.tensor(ids), attention_mask=self.torch.tensor(mask),
                                      max_new_tokens=max(budgets))
        return [self.cut(row[width:].tolist()[:budget]) for row, budget in zip(out, budgets)]

    def cut(self, tokens):
        end = next((place for place, token in enumerate(tokens) if token in self.stops), len(tokens))
        return tokens[: end + 1]

    def follow(self, prompts, drafts):
        """For each draft the first place where another token has the largest logit, and by how much; None if there is none."""
        torch = self.torch
        both = [prompt + draft for prompt, draft in zip(prompts, drafts)]
        width = max(map(len, both))
        ids = torch.tensor([tokens + [self.pad] * (width - len(tokens)) for tokens in both])
        mask = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens in both])
        with torch.inference_mode():
            hidden = self.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            return [self.parting(row[len(prompt) - 1 :], draft) for row, prompt, draft in zip(hidden, prompts, drafts)]

    def parting(self, hidden, draft):
        for start in range(0, len(draft), POSITIONS):
            ours = self.torch.tensor(draft[start : start + POSITIONS])
            # scales and soft caps of the head are left out: they move no argmax
            logits = self.model.get_output_embeddings()(hidden[start : start + len(ours)])
            best = logits.argmax(-1)
            apart = (best != ours).nonzero()
            if len(apart):
                at = int(apart[0])
                gap = float(logits[at, best[at]] - logits[at, ours[at]])
                rank = int((logits[at] > logits[at, ours[at]]).sum())
                return {"at": start + at, "ours": int(ours[at]), "theirs": int(best[at]), "gap": gap, "rank_of_ours": rank}
        return None


class Texts:
    """What transformers wrote, by what it was asked, in a file that grows."""

    def __init__(self, file):
        self.found, self.file = {}, file
        if file and file.exists():
            whole = file.read_bytes()
            kept = whole[: whole.rfind(b"\n") + 1]  # a killed run may leave half a line
            for number, line in enumerate(kept.splitlines(), 1):
                try:
                    record = json.loads(line)
                    self.found.setdefault(record["key"], {}).update(record)
                except (ValueError, KeyError, TypeError) as error:
                    raise Bad(f"{file} line {number} is no text that this script wrote: {error!r}") from error
            if kept != whole:
                file.write_bytes(kept)

    def add(self, records):
        for record in records:
            self.found.setdefault(record["key"], {}).update(record)
        if self.file:
            with open(self.file, "a") as out:
                out.write("".join(json.dumps(record) + "\n" for record in records))

    def of(self, row):
        return self.found.get(row["key"], {})


def stamp(folder):
    """Changes when the checkpoint does."""
    files = sorted(path for path in Path(folder).iterdir() if path.suffix in (".json", ".safetensors", ".bin", ".jinja"))
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def batches(rows, size, length, tokens=math.inf):
    """Neighbours in length, the longest first, as evaluation harnesses do it."""
    batch = []
    for row in sorted(rows, key=length, reverse=True):
        if batch and (len(batch) == size or (len(batch) + 1) * length(batch[0]) > tokens):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def write(peer, made, arguments, texts, model):
    """Lets transformers write every text that is not there yet, and puts it into the rows."""
    longest = budget(made, arguments)
    for row in made["rows"]:
        if row["stop"] == "token" and row["tokens"][-1] not in peer.stops:
            raise Bad(f"{row['where']} ends with token {row['tokens'][-1]}, and the stop tokens are {peer.stops}")
        draft = row["tokens"] if arguments.way == "follow" else None
        question = [model, arguments.way, longest, peer.stops, row["theirs_prompt"], draft]
        row["key"] = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:24]
    asked = {row["key"]: row for row in made["rows"]}.values()  # the same twice is asked once

    def missing(field):
        return [row for row in asked if field not in texts.of(row)]

    def work(what, rows, groups, step):
        done, begun = 0, time.time()
        for group in groups:
            start = time.time()
            records = step(group)
            share = {f"{what}_seconds": (time.time() - start) / len(group)}
            texts.add([{"key": row["key"], "id": row["id"], **share, **record} for row, record in zip(group, records)])
            done, passed = done + len(group), time.time() - begun
            left, name = passed / done * (len(rows) - done), made["file"].name
            print(f"{what} {done}/{len(rows)} of {name} · {passed:.0f} s · eta {left:.0f} s", file=sys.stderr, flush=True)

    def said(tokens):
        return {"tokens": tokens, "text": peer.text(tokens)}

    def agreed(row):
        return texts.of(row)["parted"]["at"] if arguments.way == "follow" else 0

    def follow(group):
        found = peer.follow([row["theirs_prompt"] for row in group], [row["tokens"] for row in group])
        return [{"parted": apart} | ({} if apart else said(row["tokens"])) for row, apart in zip(group, found)]

    def generate(group):
        kept = [row["tokens"][: agreed(row)] for row in group]
        prompts = [row["theirs_prompt"] + tokens for row, tokens in zip(group, kept)]
        new = peer.generate(prompts, [longest - len(tokens) for tokens in kept])
        return [said(tokens + rest) for tokens, rest in zip(kept, new)]

    if arguments.way == "follow":
        rows = missing("parted")
        groups = batches(rows, arguments.batch, lambda row: len(row["theirs_prompt"] + row["tokens"]), TOKENS)
        work("follow", rows, groups, follow)
        rows = missing("text")
        # those with as much left to write end together
        work("generate", rows, batches(rows, arguments.batch, lambda row: longest - agreed(row)), generate)
    else:
        rows = missing("text")
        work("generate", rows, batches(rows, arguments.batch, lambda row: len(row["theirs_prompt"])), generate)
    for row in made["rows"]:
        record = texts.of(row)
        row |= {"theirs_text": record["text"], "theirs_tokens": record["tokens"], "parted": record.get("parted"),
                "seconds": record.get("generate_seconds", 0.0) + record.get("follow_seconds", 0.0)}


# Verdicts


class Judge:
    """math-verify with its usual settings. Each text is judged once."""

    def __init__(self):
        from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

        self.verify, self.known = verify, {}
        self.parse = lambda text: parse(text, [LatexExtractionConfig(), ExprExtractionConfig()])

    def gold(self, answer):
        plain = answer.strip()
        found = self.parse(plain if "\\boxed" in plain or "$" in plain else "\\boxed{" + plain + "}")
        return found or self.parse(plain)

    def __call__(self, answer, text):
        """Whether it is right, and what was found in it."""
        if (answer, text) not in self.known:
            try:
                gold, found = self.gold(answer), self.parse(text)
                shown = str(found[-1]) if found else None  # the last is the text that was parsed
                self.known[answer, text] = bool(gold and found and self.verify(gold, found)), shown if gold else "no gold parsed"
            except Exception as error:  # sympy raises all kinds of things
                self.known[answer, text] = False, f"failed: {error!r}"[:200]
        return self.known[answer, text]


def wilson(right, trials, z=1.959964):
    """E. B. Wilson, JASA 22 (1927), as in eval/src/stats/interval.rs."""
    p = right / trials
    centre, scale = p + z * z / (2 * trials), 1 + z * z / trials
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    return [max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)]


def mcnemar(first, second):
    """Two-sided p of so uneven a split of the pairs that differ, were both as likely."""
    n = first + second
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(first, second) + 1)) / 2**n)


def accuracy(verdicts):
    right, trials = sum(verdicts), len(verdicts)
    return {"right": right, "of": trials, "accuracy": right / trials, "interval": wilson(right, trials)}


def table(rows):
    """Pairs of verdicts, ours on our text and theirs on theirs."""
    def count(ours, theirs):
        return sum(row["right"] == ours and row["theirs_right"] == theirs for row in rows)

    cells = {"both_right": count(True, True), "only_ours": count(True, False), "only_theirs": count(False, True),
             "both_wrong": count(False, False)}
    pair = cells["only_ours"], cells["only_theirs"]
    return cells | {"difference": (pair[0] - pair[1]) / len(rows) if rows else None, "mcnemar_p": mcnemar(*pair)}


def case(row):
    return {"id": row["id"], "place": row["place"], "gold": row["gold"], "ours_right": row["right"], "ours_answer": row["answer"],
            "reason": row["reason"], "theirs_right": row["judged_ours"][0], "theirs_answer": row["judged_ours"][1],
            "end_of_text": row["text"][-200:]}


def agreement(rows):
    differ = [case(row) for row in rows if row["right"] != row["judged_ours"][0]]
    share = 1 - len(differ) / len(rows) if rows else None
    return {"texts": len(rows), "agree": len(rows) - len(differ), "share": share, "disagreements": differ}


def compare(rows, judge):
    for row in rows:
        row["judged_ours"] = judge(row["gold"], row["text"])
        row["theirs_right"], row["theirs_answer"] = judge(row["gold"], row.get("theirs_text", row["text"]))
    equal = [row for row in rows if row.get("theirs_text", row["text"]) == row["text"]]
    apart = [row for row in rows if row.get("theirs_text", row["text"]) != row["text"]]
    prompts = [row for row in rows if row["theirs_prompt"] != row["prompt"]]
    gaps = sorted((row["parted"]["gap"] for row in rows if row.get("parted")), reverse=True)
    ours, theirs = accuracy([row["right"] for row in rows]), accuracy([row["theirs_right"] for row in rows])
    inside = theirs["interval"][0] <= ours["accuracy"] <= theirs["interval"][1]
    agreed = agreement(equal)
    return {
        "samples": len(rows), "questions": len({row["id"] for row in rows}),
        "prompts_differ": len(prompts), "first_prompt_that_differs": first_difference(prompts[0]) if prompts else None,
        "no_verdict_of_ours": [row["id"] for row in rows if row["value"] is None],
        "ours": ours, "theirs": theirs, "ours_within_theirs": inside,
        "texts_equal": len(equal), "equal": agreed, "differ": table(apart), "all": table(rows),
        "our_texts": agreement(rows) if apart else agreed,
        "parted": [{"id": row["id"], "of": len(row["tokens"]), **row["parted"]} for row in rows if row.get("parted")],
        "largest_gap": gaps[0] if gaps else None,
        "holds": inside and agreed["share"] is not None and agreed["share"] >= AGREEMENT,
    }


def first_difference(row):
    ours, theirs = row["prompt"], row["theirs_prompt"]
    at = next((k for k, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    end, lengths = at + 8, [len(ours), len(theirs)]
    return {"id": row["id"], "at": at, "ours": ours[at:end], "theirs": theirs[at:end], "lengths": lengths}


# Report


def timing(mades, arguments, peer):
    """Of transformers: the sum over batches of what generate() took, without loading, judging and the tokenizer."""
    told = [made["seconds"] for made in mades]
    ours = arguments.ours_seconds or (None if None in told else sum(told))
    rows, every = [row for made in mades for row in made["rows"]], [row for made in mades for row in made["all"]]
    written = {row["key"]: row for row in rows if "key" in row}.values()
    seconds, count = sum(row["seconds"] for row in written), sum(len(row["theirs_tokens"]) for row in written)
    figures = {"way": arguments.way, "batch": arguments.batch, "seconds": seconds, "texts": len(written), "tokens": count,
               "tokens_per_second": count / seconds if seconds else None}
    if ours:
        total = sum(len(row["tokens"]) for row in every)
        figures["ours"] = {"seconds": ours, "texts": len(every), "tokens": total, "tokens_per_second": total / ours}
        if seconds and arguments.way == "generate":
            figures["times_as_fast"] = (total / ours) / (count / seconds)
            if len(written) == len(every):
                figures["seconds_ratio"] = seconds / ours
    return figures


def show(name, f):
    def percent(a):
        return f"{a['accuracy']:.2%} ({a['right']}/{a['of']}, 95 % interval {a['interval'][0]:.2%} to {a['interval'][1]:.2%})"

    print(f"\n{name}: {f['samples']} samples of {f['questions']} questions; {f['prompts_differ']} prompts differ")
    if f["first_prompt_that_differs"]:
        print(f"    first: {f['first_prompt_that_differs']}")
    if f["no_verdict_of_ours"]:
        print(f"    without a verdict of ours: {len(f['no_verdict_of_ours'])}, the first {f['no_verdict_of_ours'][:5]}")
    print(f"    ours   {percent(f['ours'])}, {'within' if f['ours_within_theirs'] else 'OUTSIDE'} their interval")
    print(f"    theirs {percent(f['theirs'])}")
    share = "nothing to compare" if f["equal"]["share"] is None else f"verdicts agree on {f['equal']['share']:.2%}"
    print(f"    {f['texts_equal']} texts are equal: {share}, {len(f['equal']['disagreements'])} do not")
    if f["texts_equal"] < f["samples"]:
        for what, d in ((f"{f['samples'] - f['texts_equal']} texts differ", f["differ"]), ("all texts", f["all"])):
            cells = ", ".join(f"{key.replace('_', ' ')} {count}" for key, count in d.items() if isinstance(count, int))
            print(f"    {what}: {cells}; difference {d['difference']:+.2%}, McNemar p {d['mcnemar_p']:.3f}")
        print(f"    on our texts alone both judges agree on {f['our_texts']['share']:.2%}")
    if f["parted"]:
        print(f"    {len(f['parted'])} completions part, by at most {f['largest_gap']:.2e} between the two logits")
        for p in sorted(f["parted"], key=lambda p: -p["gap"])[:10]:
            print(f"        {p['id']} at {p['at']} of {p['of']}: {p['ours']} and {p['theirs']}, gap {p['gap']:.2e}, "
                  f"{p['rank_of_ours']} above ours")
    for d in f["our_texts"]["disagreements"]:
        verdict = ["wrong", "right"]
        print(f"    {d['id']}: gold {d['gold']!r}, ours {verdict[d['ours_right']]} {d['ours_answer']!r} ({d['reason']}), "
              f"theirs {verdict[d['theirs_right']]} {d['theirs_answer']!r}")


def run(arguments):
    mades = [load(file, arguments) for file in arguments.files]
    if not arguments.checkpoint.is_dir():
        raise Bad(f"{arguments.checkpoint} is no folder")
    writes = any(made["greedy"] for made in mades)
    peer, texts = Peer(arguments.checkpoint, writes, arguments.dtype), Texts(arguments.texts)
    judge = Judge()
    figures = {"checkpoint": str(arguments.checkpoint), "versions": peer.versions, "files": {}}
    for made in mades:
        thinking = {None: made["enable_thinking"], "true": True, "false": False}[arguments.enable_thinking]
        for row in made["rows"]:
            row["theirs_prompt"] = peer.render(row, thinking)
        if made["greedy"]:  # what was drawn is only judged again
            model = [str(arguments.checkpoint.resolve()), stamp(arguments.checkpoint), arguments.dtype]
            write(peer, made, arguments, texts, model)
        found = figures["files"][str(made["file"])] = {"greedy": made["greedy"], "unanswered": made["unanswered"],
                                                     "computed": made["computed"], **compare(made["rows"], judge)}
        show(made["file"], found)
    if len(mades) > 1:
        figures["together"] = compare([row for made in mades for row in made["rows"]], judge)
        show("all files together", figures["together"])
    t = figures["timing"] = timing(mades, arguments, peer)
    if t["seconds"]:
        v = peer.versions
        print(f"\n{t['way']}: {t['texts']} texts, {t['tokens']} tokens in {t['seconds']:.1f} s, {t['tokens_per_second']:.1f} "
              f"tokens/s ({v['dtype']}, batch {t['batch']}, {v['threads']} threads; without loading, {v['load_seconds']:.1f} s)")
    if "ours" in t:
        o = t["ours"]
        print(f"ours: {o['texts']} texts, {o['tokens']} tokens in {o['seconds']:.1f} s, {o['tokens_per_second']:.1f} tokens/s"
              + (f": {t['times_as_fast']:.2f} times as fast by tokens" if "times_as_fast" in t else "")
              + (f", {t['seconds_ratio']:.2f} times by seconds" if "seconds_ratio" in t else ""))
    figures["holds"] = all(found["holds"] for found in figures["files"].values())
    print("\nthe check holds" if figures["holds"] else "\nthe check FAILS")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if figures["holds"] else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a folder in Hugging Face layout")
    parser.add_argument("files", nargs="+", type=Path, help="samples of `evenkeel eval`, `.zst` or not")
    parser.add_argument("--way", choices=["follow", "generate"], default="follow", help="how transformers writes its texts")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="what transformers computes in")
    parser.add_argument("--texts", type=Path, help="keep the texts here, and take from here what is there")
    parser.add_argument("--batch", type=int, default=32, help="rows of a batch")
    parser.add_argument("--limit", type=int, help="questions of a file")
    parser.add_argument("--max-tokens", type=int, help="longest completion, where neither settings nor a cut completion tell it")
    parser.add_argument("--enable-thinking", choices=["true", "false"], help="told to the chat template")
    parser.add_argument("--part", default="math", help="the reward function whose verdict is compared")
    parser.add_argument("--ours-seconds", type=float, help="what sampling all of the files took")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    try:
        sys.exit(run(arguments))
    except Bad as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
