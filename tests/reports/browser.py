"""Headless Chromium with a person's events: clicks, keys, screen sizes (Chrome DevTools Protocol over two pipes)."""

import base64
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


class Page:
    """One tab. `console` holds what it complained of, `requests` the addresses that it asked for."""

    def __init__(self, requests, replies):
        self._out, self._in = requests, replies
        self._received = bytearray()
        self._number = 0
        self._session = None
        self.console, self.requests = [], []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """Send a command and return its result."""
        self._number += 1
        question = {"id": self._number, "method": method, "params": parameters}
        os.write(
            self._out, json.dumps(question | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        return self._until(lambda message: message.get("id") == self._number)["result"]

    def _until(self, wanted):
        while True:
            while b"\0" not in self._received:
                self._received.extend(os.read(self._in, 1 << 20) or pytest.fail("the browser ended"))
            raw, _, rest = self._received.partition(b"\0")
            self._received = bytearray(rest)
            message = json.loads(raw)
            match message.get("method"):
                case "Runtime.exceptionThrown" | "Log.entryAdded":
                    self.console.append(message["params"])
                case "Network.requestWillBeSent":
                    self.requests.append(message["params"]["request"]["url"])
            if "error" in message:
                pytest.fail(str(message["error"]))
            if wanted(message):
                return message

    def open(self, path, hash_="", *, width=1280, height=900, dark=False):
        """Open a file on a screen of this size in CSS pixels and wait until its scripts have run."""
        phone = width < 500
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=path.as_uri() + hash_)
        self._until(lambda message: message.get("method") == "Page.loadEventFired")
        while self.eval("document.documentElement.dataset.ready ?? document.readyState") != "yes":
            pass

    def eval(self, expression):
        """Return the value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, selector):
        """Return what a person reads in an element."""
        return self.eval(f"document.querySelector({json.dumps(selector)}).innerText")

    def click(self, selector):
        """Scroll to an element and press the mouse at its middle, as far as nothing covers it."""
        found = json.dumps(selector)
        self.eval(f"document.querySelector({found}).scrollIntoView({{block: 'center'}})")
        x, y, hit = self.eval(
            f"(() => {{ const e = document.querySelector({found}), b = e.getBoundingClientRect(), "
            "x = b.x + b.width / 2, y = b.y + b.height / 2, at = document.elementFromPoint(x, y); "
            "return [x, y, e === at || e.contains(at)] })()"
        )
        assert hit, f"{selector} is covered or off the screen"
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self._settle()

    def type(self, text):
        """Type into what has the focus."""
        self.ask("Input.insertText", text=text)
        self.ask("Runtime.evaluate", expression="new Promise((done) => setTimeout(done, 250))", awaitPromise=True)

    def press(self, key):
        """Press a key."""
        code = {"Tab": 9, "Enter": 13, " ": 32}[key]
        more = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **more)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)
        self._settle()

    def _settle(self):
        expression = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
        self.ask("Runtime.evaluate", expression=expression, awaitPromise=True)

    def screenshot(self, file: Path):
        """Write what is on the screen as PNG."""
        file.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser(profile):
    """Start a browser with an empty profile folder and yield its page."""
    (its_in, requests), (replies, its_out) = os.pipe(), os.pipe()
    command = f"exec {CHROMIUM} --headless --no-sandbox --disable-gpu --hide-scrollbars --remote-debugging-pipe "
    command += f"'--user-data-dir={profile}' 10<&{its_in} 11>&{its_out} 3<&10 4>&11"
    process = subprocess.Popen(["bash", "-c", command], pass_fds=(its_in, its_out), stderr=subprocess.DEVNULL)
    os.close(its_in), os.close(its_out)
    limit = Timer(120, process.kill)
    limit.start()
    try:
        yield Page(requests, replies)
    finally:
        limit.cancel()
        process.kill()
        process.wait()
        os.close(requests), os.close(replies)
