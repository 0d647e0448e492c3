"""A real Chromium without a window, spoken to in its own protocol over a pipe (Chrome DevTools Protocol)."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import threading

from .wait import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_FLAGS = [
    "--headless",
    # The tests may run as root, for whom Chromium has no sandbox.
    "--no-sandbox",
    "--disable-gpu",
    # Containers have little shared memory.
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]


def _high(fd):
    """The same descriptor beyond those that are given away."""
    other = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return other


class Browser:
    """One page. `complaints` is what the browser had to say against what it was shown, `asked_for` what it fetched."""

    def __init__(self, width=1280, height=900):
        assert CHROMIUM, "chromium is missing: scripts/packages.sh test installs it"
        self._profile = tempfile.mkdtemp(prefix="phantom-chromium-")
        self._lock = threading.Condition()
        self._answers = {}
        self._last = 0
        self.complaints = []
        self.asked_for = []
        self._loads = 0
        # Chromium reads descriptor 3 and writes to descriptor 4.
        theirs_in, self._to = (_high(fd) for fd in os.pipe())
        self._from, theirs_out = (_high(fd) for fd in os.pipe())
        command = 'exec "$@" 3<&"$IN" 4>&"$OUT"'
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", CHROMIUM, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "IN": str(theirs_in), "OUT": str(theirs_out)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network", "Audits"):
            self.call(f"{domain}.enable")
        self.size(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, method, **parameters):
        """Asks the browser for something, and gives its answer."""
        with self._lock:
            self._last += 1
            number = self._last
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        with self._lock:
            answered = self._lock.wait_for(lambda: number in self._answers, timeout=60)
            assert answered, f"{method}: the browser does not answer"
            answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _read(self):
        buffer = b""
        while data := os.read(self._from, 1 << 16):
            buffer += data
            *messages, buffer = buffer.split(b"\0")
            for message in messages:
                self._take(json.loads(message))

    def _take(self, message):
        with self._lock:
            if "id" in message:
                self._answers[message["id"]] = message
            match message.get("method"):
                case "Log.entryAdded":
                    self.complaints.append(message["params"]["entry"]["text"])
                case "Audits.issueAdded":
                    self.complaints.append(json.dumps(message["params"]["issue"]))
                case "Runtime.exceptionThrown":
                    self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))
                case "Network.requestWillBeSent":
                    self.asked_for.append(message["params"]["request"]["url"])
                case "Page.loadEventFired":
                    self._loads += 1
            self._lock.notify_all()

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, name):
        """Sets the user's preference: `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def open(self, url):
        loads = self._loads
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        self.wait_load(loads)

    def wait_load(self, after):
        """Waits until a page has been loaded since there were so many; gives how many there are."""
        until(lambda: self._loads > after, "the page is loaded")
        return self._loads

    @property
    def loads(self):
        return self._loads

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self):
        """The whole page as a PNG."""
        height = self.evaluate("document.documentElement.scrollHeight")
        width = self.evaluate("document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        answer = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def close(self):
        if self._process.poll() is None:
            try:
                self._session = None
                self.call("Browser.close")
            except (AssertionError, OSError):
                self._process.kill()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)
        self._reader.join(10)
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)
