"""Chromium without a window, driven through its debugging pipe: no driver and no package is needed."""

import json
import os
import subprocess
import time
from base64 import b64decode

from mlvl_fairseq.cli.extras import find_program


def find_chromium():
    """Its path; None: it is not installed."""
    return find_program("Chromium")


class Chromium:
    """One page. Use as a context manager.

    Args:
        profile: a folder for what it keeps.
    """

    def __init__(self, profile):
        (ours_in, theirs_out), (theirs_in, ours_out) = os.pipe(), os.pipe()
        options = ["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        options += ["--disable-dev-shm-usage", f"--user-data-dir={profile}"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []

        def place_pipe():  # where Chromium expects it; above, so that neither overwrites the other
            high_in, high_out = os.dup2(theirs_in, 100), os.dup2(theirs_out, 101)
            os.dup2(high_in, 3), os.dup2(high_out, 4)

        self._process = subprocess.Popen(
            [find_chromium(), *options],
            preexec_fn=place_pipe,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in), os.close(theirs_out)
        self._reader, self._writer = os.fdopen(ours_in, "rb"), ours_out
        self._number, self._session, self._rest, self.events = 0, None, b"", []

    def __enter__(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(20)
        self._reader.close()
        os.close(self._writer)

    def call(self, method, **parameters):
        """The result of a method of Chromium's DevTools protocol; what happens meanwhile is added to `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message.update({"sessionId": self._session} if self._session else {})
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _read(self):
        while b"\0" not in self._rest:
            part = self._reader.read1(1 << 16)
            assert part, "Chromium ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, address):
        self.call("Page.navigate", url=address)

    def value(self, expression):
        """Of JavaScript in the page."""
        options = {"returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression, seconds=20):
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never became true: {expression}"
            time.sleep(0.05)

    def press(self, *keys):
        """Keys by their names, as ``ArrowDown``; characters are typed."""
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = {"Enter": 13, "Escape": 27}.get(key, 0)
            down = {"key": key, "text": text, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", **down)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def size(self, width, height, scheme="light"):
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path):
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def problems(self):
        """Errors that the page's console shows."""
        entries = [event["params"] for event in self.events if event["method"] == "Log.entryAdded"]
        errors = [entry["entry"]["text"] for entry in entries if entry["entry"]["level"] == "error"]
        return errors + [event for event in self.events if event["method"] == "Runtime.exceptionThrown"]
