"""Reads the output of `evenkeel eval` with lm-evaluation-harness' own functions, and compares the figures.

    pip install lm_eval==0.4.13 datasets pytablewriter
    python tests/interop/harness.py RUN/lm_eval [RUN/evaluation.json]

The files of each model are found, dated and told apart by lm_eval.utils, figures are shown by its make_table, and samples are
read by `datasets`, as its scripts and its EvaluationTracker do. Then the tracker itself saves the same results and samples: its
task hashes must be ours, its files must have the same figures and lines. Figures are counted again from the samples, and with
evaluation.json (by default beside the folder) compared with what Evenkeel says itself.

Exit code 0: all of it holds; 1: it does not; 2: the input is not what it should be.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from lm_eval.loggers import EvaluationTracker
from lm_eval.utils import (
    get_file_datetime,
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    handle_non_serializable,
    hash_string,
    make_table,
)


class Bad(Exception):
    """The input is not what it should be."""


class Checks:
    def __init__(self):
        self.failed, self.count = [], 0

    def same(self, what, ours, theirs):
        self.count += 1
        if ours != theirs:
            self.failed.append(f"{what}: {ours!r} and {theirs!r}")

    def near(self, what, ours, theirs):
        self.count += 1
        if ours is None or theirs is None or abs(ours - theirs) > 1e-12:
            self.failed.append(f"{what}: {ours!r} and {theirs!r}")


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def model(folder, told, checks):
    files = [file.as_posix() for file in folder.iterdir() if file.is_file()]
    results_files, samples_files = get_results_filenames(files), get_sample_results_filenames(files)
    if not results_files or not samples_files:
        raise Bad(f"{folder} has no results or no samples that lm_eval finds: {files}")
    latest = get_latest_filename([Path(file).name for file in results_files])
    results = json.loads((folder / latest).read_text(encoding="utf-8"))
    date = get_file_datetime(latest).removesuffix(".json")
    print(make_table(results))
    samples = {}
    for task, config in results["configs"].items():
        # as its script for Zeno chooses them
        name = get_latest_filename([Path(file).name for file in samples_files if task in file])
        checks.same(f"{name}: task", get_file_task_name(name), task)
        checks.same(f"{name}: date", get_file_datetime(name), date)
        samples[task] = lines(folder / name)
        dataset(folder / name, len(samples[task]), checks)
        task_of(task, config, results, samples[task], checks)
        for evaluation in told:
            beside(task, results, evaluation, checks)
    tracked(results, samples, checks)


def dataset(file, count, checks):
    """The samples as the hub's viewer reads them."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise Bad(f"datasets is not installed: {error}") from error
    with tempfile.TemporaryDirectory() as cache:
        checks.same(f"{file.name}: rows", len(load_dataset("json", data_files=str(file), split="train", cache_dir=cache)), count)


def task_of(task, config, results, samples, checks):
    """Figures and hashes of a task again from its samples."""
    for metric in config["metric_list"]:
        values = [sample[metric["metric"]] for sample in samples if sample[metric["metric"]] is not None]
        checks.same(f"{task}: {metric}", metric["aggregation"], "mean")
        checks.near(f"{task}: {metric['metric']}", sum(values) / len(values), results["results"][task][f"{metric['metric']},none"])
        checks.same(f"{task}: judged questions", len(values), results["n-samples"][task]["effective"])
    for sample in samples:
        where = f"{task} {sample['doc']['id']}"
        doc = json.dumps(sample["doc"], indent=2, default=handle_non_serializable, ensure_ascii=False)
        checks.same(f"{where}: doc_hash", sample["doc_hash"], hash_string(doc))
        # what its scripts show of a sample
        prompt = sample["arguments"]["gen_args_0"]["arg_0"]
        checks.same(f"{where}: prompt_hash", sample["prompt_hash"], hash_string(prompt))
        checks.same(f"{where}: target_hash", sample["target_hash"], hash_string(str(sample["target"])))
        checks.same(f"{where}: texts", {str}, {type(sample["resps"][0][0]), type(sample["filtered_resps"][0]), type(prompt)})


def beside(task, results, told, checks):
    """Figures beside those of evaluation.json."""
    name = results["model_name_sanitized"]
    sanitized = "".join(c if c.isalnum() or c in "._-" else "_" for c in told["model"]["name"])
    if sanitized != name or told["protocol"]["benchmark"] != task:
        return
    summary, theirs = told["summary"], results["results"][task]
    checks.near(f"{task}: accuracy", summary["accuracy"]["value"], theirs["exact_match,none"])
    if len(summary["pass_at"]) > 1:
        for key, figure in (("pass_at", "pass@"), ("pass_hat", "pass^"), ("majority_at", "maj@")):
            for at in summary[key]:
                checks.near(f"{task}: {figure}{at['k']}", at["value"], theirs[f"{figure}{at['k']},none"])


def tracked(results, samples, checks):
    """The same results and samples through the harness' own tracker."""
    with tempfile.TemporaryDirectory() as out:
        tracker = EvaluationTracker(output_path=out)
        tracker.general_config_tracker.model_name_sanitized = results["model_name_sanitized"]
        ours = json.loads(json.dumps(results))
        # in memory, arguments are pairs; the tracker names them when it saves
        loose = {task: [dict(sample, arguments=[tuple(args.values()) for args in sample["arguments"].values()])
                        for sample in of] for task, of in samples.items()}
        tracker.save_results_aggregated(ours, loose)
        for task, of in loose.items():
            tracker.save_results_samples(task, of)
        written = Path(out) / results["model_name_sanitized"]
        files = [file.as_posix() for file in written.iterdir()]
        again = json.loads(Path(get_latest_filename(get_results_filenames(files))).read_text(encoding="utf-8"))
        checks.same("task hashes", results["task_hashes"], again["task_hashes"])
        checks.same("figures", results["results"], again["results"])
        for task, of in samples.items():
            file = get_latest_filename([file for file in get_sample_results_filenames(files) if f"_{task}_" in file])
            checks.same(f"{task}: lines", of, lines(Path(file)))


def run(arguments):
    if not arguments.folder.is_dir():
        raise Bad(f"{arguments.folder} is no folder")
    beside = arguments.evaluation or arguments.folder.parent / "evaluation.json"
    told = json.loads(beside.read_text(encoding="utf-8"))["evaluations"] if beside.exists() else []
    checks = Checks()
    models = sorted(folder for folder in arguments.folder.iterdir() if folder.is_dir())
    if not models:
        raise Bad(f"{arguments.folder} has no model's folder")
    for folder in models:
        model(folder, told, checks)
    for failure in checks.failed[:20]:
        print(f"differs: {failure}")
    print(f"{checks.count - len(checks.failed)} of {checks.count} checks of {len(models)} models hold")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder lm_eval of an evaluation")
    parser.add_argument("evaluation", type=Path, nargs="?", help="its evaluation.json")
    try:
        sys.exit(run(parser.parse_args()))
    except Bad as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
