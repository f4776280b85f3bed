"""A real headless browser for tests, driven through a pipe: no package is needed besides the browser itself."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT_SECONDS = 60.0


def browser_path() -> str | None:
    """Return a Chromium of this machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Visit:
    """What a page did.

    Attributes:
        seconds: from the request until everything was loaded and laid out.
        messages: of the console, and whatever the browser logged.
        requests: addresses that were asked for.
        overflow: pixels that the page is wider than the window.
        title: of the page.
        screenshot: of the whole page, as a PNG.
    """

    seconds: float = 0.0
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    overflow: int = 0
    title: str = ""
    screenshot: bytes = b""


class Browser:
    """A browser that was started; see `browser`."""

    def __init__(self, reading: int, writing: int):
        self._in, self._out, self._buffer, self._number = reading, writing, b"", 0
        self._events: list[dict[str, Any]] = []

    def visit(self, page: Path | str, *, width: int = 1200, height: int = 900, dark: bool = False) -> Visit:
        """Open a page in a window of a size and return what it did.

        Args:
            page: a file, or an address of this machine.
            width: of the window in pixels.
            height: of the window in pixels.
            dark: whether the person prefers dark pages.
        """
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", {}, session)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", size, session)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", {"features": scheme}, session)
        self._events.clear()
        found, started = Visit(), time.monotonic()
        address = page if isinstance(page, str) else page.resolve().as_uri()
        self.call("Page.navigate", {"url": address}, session)
        self._until("Page.loadEventFired", session)
        measure = "[document.documentElement.scrollWidth - window.innerWidth, document.title]"
        result = self.call("Runtime.evaluate", {"expression": measure, "returnByValue": True}, session)
        found.seconds = time.monotonic() - started
        found.overflow, found.title = result["result"]["value"]
        shot = self.call("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"}, session)
        found.screenshot = base64.b64decode(shot["data"])
        for event in self._events:
            if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                found.messages.append(json.dumps(event["params"])[:500])
            elif event["method"] == "Network.requestWillBeSent":
                found.requests.append(event["params"]["request"]["url"])
        self.call("Target.closeTarget", {"targetId": target})
        return found

    def call(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Call a method of the DevTools protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._out, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
            if "method" in answer:
                self._events.append(answer)

    def _until(self, method: str, session: str) -> None:
        while not any(event["method"] == method and event.get("sessionId") == session for event in self._events):
            self._events.append(self._read())

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    path = browser_path()
    assert path is not None, "no browser here; ask `browser_path` first"
    to_read, to_write = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
        command = [path, *arguments, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]

        def descriptors() -> None:  # the protocol's two pipes are descriptors 3 and 4
            os.dup2(to_read[0], 10)
            os.dup2(to_write[1], 11)
            os.dup2(10, 3)
            os.dup2(11, 4)

        process = subprocess.Popen(
            command, preexec_fn=descriptors, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read[0])
        os.close(to_write[1])
        try:
            yield Browser(to_write[0], to_read[1])
        finally:
            os.close(to_read[1])
            os.close(to_write[0])
            process.terminate()
            process.wait(WAIT_SECONDS)
