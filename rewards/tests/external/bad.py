"""A reward function that does to each completion what the completion says."""

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import time

atexit.register(time.sleep, 1000)


def act(text, pids):
    if pids:
        with open(pids, "a") as file:
            file.write("%d\n" % os.getpid())
    if text == "sleep":
        time.sleep(1000)
    elif text == "family":
        for apart in (False, True):
            child = subprocess.Popen(["sleep", "1000"], start_new_session=apart)
            with open(pids, "a") as file:
                file.write("%d\n" % child.pid)
        time.sleep(1000)
    elif text == "fork":
        os.fork()
    elif text == "fork and hold":
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(4)
    elif text == "exit":
        print("about to leave", file=sys.stderr)
        os._exit(3)
    elif text == "sys.exit":
        sys.exit(5)
    elif text == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif text == "raise":
        raise ValueError("no such \ud800 thing")
    elif text == "bytes":
        for fd in range(3, 256):
            try:
                os.write(fd, b"\xff\xfe{\n")
            except OSError:
                pass
    elif text == "print":
        print('{"rewards": [9]}')
        os.write(1, b"raw\n")
        libc = ctypes.CDLL(None)
        libc.printf(b"from C\n")
        libc.fflush(None)
        assert sys.stdin.read() == "" and os.read(0, 1) == b""
    elif text == "nan":
        return float("nan")
    elif text == "str":
        return "abc"
    elif text == "list":
        return [1]
    elif text == "none":
        return None
    elif text == "big":
        return 1e300
    return float(len(text))


def each(completions, pids=None, **kwargs):
    return [act(text, pids) for text in completions]


def hang(completions, **kwargs):
    time.sleep(1000)


def leave(completions, **kwargs):
    os._exit(3)


def few(completions, **kwargs):
    return [1.0] * (len(completions) - 1)


def number(completions, **kwargs):
    return 1.0


def dictionary(data_source, solution_str, ground_truth):
    return {"value": 1}


def one(sample):
    return act(sample.completion, None)


def wants(completions, colour, **kwargs):
    return [0.0] * len(completions)
