#!/usr/bin/env python3
"""Opens a report in a headless Chromium and checks that it works.

    page.py PAGE.html [--screenshots DIR]

Exits 0 if the page loads without errors or requests, shows its samples, filters them and follows links to them, fits a
phone, and still shows its figures without JavaScript; else 1 with the reasons. Exits 77 where no Chromium is installed.
The browser is spoken to in the DevTools protocol, over a pipe: messages of JSON that end in a zero byte.
"""

import argparse
import base64
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PATIENCE = 60  # seconds for anything the browser is asked


class Browser:
    """A Chromium with one page."""

    def __init__(self, program, folder):
        ours, theirs = os.pipe(), os.pipe()
        # descriptors above those that the browser wants, so that moving them there overwrites nothing
        reads = fcntl.fcntl(theirs[0], fcntl.F_DUPFD_CLOEXEC, 10)
        writes = fcntl.fcntl(ours[1], fcntl.F_DUPFD_CLOEXEC, 10)

        def wire():
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        command = [program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--disable-gpu",
                   "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                   "--disable-dev-shm-usage", "--hide-scrollbars"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")
        self.process = subprocess.Popen(command, preexec_fn=wire, close_fds=False, start_new_session=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for used in (theirs[0], ours[1], reads, writes):
            os.close(used)
        self.incoming, self.outgoing = os.fdopen(ours[0], "rb", 0), theirs[1]
        self.read, self.number, self.events, self.session = b"", 0, [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def close(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def message(self, deadline, what):
        while b"\0" not in self.read:
            os.set_blocking(self.incoming.fileno(), False)
            some = self.incoming.read(1 << 20)
            if some:
                self.read += some
            elif some == b"":
                raise RuntimeError("the browser ended")
            elif time.monotonic() > deadline:
                raise RuntimeError(f"waited {PATIENCE} s in vain for {what}")
            else:
                time.sleep(0.01)
        text, self.read = self.read.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **params):
        self.number += 1
        asked = {"id": self.number, "method": method, "params": params}
        if self.session:
            asked["sessionId"] = self.session
        data = json.dumps(asked).encode() + b"\0"
        while data:
            data = data[os.write(self.outgoing, data):]
        deadline = time.monotonic() + PATIENCE
        while True:
            message = self.message(deadline, method)
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def wait(self, method):
        deadline = time.monotonic() + PATIENCE
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.message(deadline, method))

    def open(self, url):
        self.events.clear()
        self.ask("Page.navigate", url="about:blank")
        self.wait("Page.loadEventFired")
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self.wait("Page.loadEventFired")

    def run(self, script):
        """The value of an expression in the page."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails'].get('exception', {}).get('description')}")
        return result["result"].get("value")

    def resize(self, width, scheme="light"):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                 mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path):
        height = min(self.run("document.documentElement.scrollHeight"), 12000)
        clip = {"x": 0, "y": 0, "width": self.run("innerWidth"), "height": height, "scale": 1}
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self, url):
        """Errors of the page, and requests other than for itself."""
        time.sleep(0.2)
        self.ask("Page.getFrameTree")  # what was said before this answer has been read with it
        found = []
        for event in self.events:
            kind, params = event.get("method"), event.get("params", {})
            if kind == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                found.append(details.get("exception", {}).get("description") or details["text"])
            elif kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append("the console says " + " ".join(str(arg.get("value")) for arg in params["args"]))
            elif kind == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            elif kind == "Network.requestWillBeSent":
                asked = params["request"]["url"]
                if asked.split("#")[0] != url and not asked.startswith("data:"):
                    found.append(f"requests {asked}")
            elif kind == "Page.javascriptDialogOpening":
                found.append(f"opens a dialog: {params['message']}")
        return found


# what the page shows now, by counting, and what its data say it should show
STATE = """(() => ({
    samples: document.querySelectorAll(".sample").length,
    articles: document.querySelectorAll("article").length,
    shown: document.getElementById("shown").textContent,
    strays: document.querySelectorAll("main img, main script:not([type='application/json']), main iframe").length,
}))()"""
SET = """((id, value) => {
    const control = document.getElementById(id);
    control.value = value;
    control.dispatchEvent(new Event("input", { bubbles: true }));
})"""


def check(browser, url, failures):
    """Adds what is wrong to failures."""
    def claim(true, reason):
        if not true:
            failures.append(reason)

    browser.resize(1280)
    browser.open(url)
    claim(browser.run("document.title.length > 0 && !!document.querySelector('h1')"), "the page has no title")
    reader = browser.run("!!document.getElementById('samples')")
    if reader:
        check_reader(browser, url, claim)
    text = browser.run("(() => { const copy = document.body.cloneNode(true);"
                       " copy.querySelectorAll('script, .their').forEach(e => e.remove()); return copy.innerHTML; })()")
    for odd in ("NaN", "undefined", "Infinity"):
        claim(odd not in text, f"the page says {odd}")
    failures.extend(browser.complaints(url))

    browser.resize(390)
    widths = browser.run("[document.documentElement.scrollWidth, innerWidth]")
    claim(widths[0] <= 390 and widths[1] <= 390, f"on a phone of 390 pixels the page is {widths} wide")

    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    browser.resize(1280)
    browser.open(url)
    # the protocol's own scripts run still, so ask the tree
    def count(selector):
        root = browser.ask("DOM.getDocument")["root"]["nodeId"]
        return len(browser.ask("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"])
    claim(count("section") >= 4, "without JavaScript there are no sections")
    claim(count("article") == 0, "something ran without JavaScript")
    claim(not reader or count("noscript p") == 1, "without JavaScript the page does not say what is missing")
    failures.extend(browser.complaints(url))
    browser.ask("Emulation.setScriptExecutionDisabled", value=False)


def check_reader(browser, url, claim):
    data = browser.run("JSON.parse(document.getElementById('samples').textContent)")
    samples = [sample for question in data["questions"] for sample in question["s"]]
    state = browser.run(STATE)
    claim(state["strays"] == 0, f"{state['strays']} elements come from what models wrote")
    if samples and not state["samples"]:
        raise RuntimeError("no sample is shown")
    claim(f"{len(samples)} sample" in state["shown"] or not samples,
          f"the page has {len(samples)} samples and says: {state['shown']}")
    if samples:
        first = browser.run("document.querySelector('.sample pre').textContent")
        start = data["questions"][0]["s"]
        claim(any(first[:100] == sample["t"][:100] for sample in start), "the first completion is not as it was written")
    verdicts = {"right": lambda s: s["v"] is True, "wrong": lambda s: s["v"] is False,
                "not judged": lambda s: s["v"] is None, "truncated": lambda s: s["c"]}
    for verdict, is_so in verdicts.items():
        browser.run(f"{SET}('verdict', {json.dumps(verdict)})")
        wanted, state = sum(map(is_so, samples)), browser.run(STATE)
        said = state["shown"].startswith(f"{wanted} sample") if wanted else state["samples"] == 0
        claim(said, f"{wanted} samples are {verdict}, and the page says: {state['shown']}")
    browser.run(f"{SET}('verdict', '')")
    browser.run(f"{SET}('text', 'no model ever wrote this 7f3a')")
    claim(browser.run(STATE)["articles"] == 0, "a search for what is not there finds something")
    browser.run(f"{SET}('text', '')")
    if not data["questions"]:
        return
    last = data["questions"][-1]
    name = f"q={data['benchmarks'][last['b']]}/{last['id']}"
    browser.run(f"location.hash = encodeURIComponent({json.dumps(name)})")
    time.sleep(0.2)
    claim(browser.run(f"!!document.getElementById({json.dumps(name)})"), f"the link to {name} shows nothing")
    browser.run("location.hash = ''")
    browser.run(f"{SET}('text', '')")


def screenshots(browser, url, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            browser.resize(width, scheme)
            browser.open(url)
            browser.screenshot(folder / f"{width}-{scheme}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path, metavar="DIR")
    arguments = parser.parse_args()
    programs = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    program = next(filter(None, programs), None)
    if program is None:
        print("no chromium, chromium-browser or google-chrome is installed")
        return 77
    url, failures = arguments.page.resolve().as_uri(), []
    with tempfile.TemporaryDirectory(prefix="page-", ignore_cleanup_errors=True) as folder:
        browser = Browser(program, folder)
        try:
            check(browser, url, failures)
            if arguments.screenshots:
                screenshots(browser, url, arguments.screenshots)
        except RuntimeError as error:
            failures.append(str(error))
            failures.extend(browser.complaints(url))
        finally:
            browser.close()
    for failure in failures:
        print(f"{arguments.page}: {failure}")
    if not failures:
        print(f"{arguments.page}: works")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
