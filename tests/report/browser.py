"""A real Chromium without a screen, driven over its DevTools pipe: JSON objects on the file descriptors 3 and 4."""

from __future__ import annotations

import base64
import io
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from patience import PATIENCE

PROGRAM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-pipe",
)


class Navigated(AssertionError):
    """The document that was asked was replaced by another before it answered."""


class Browser:
    """One process; every page is a context of its own. A context manager."""

    def __enter__(self) -> Browser:
        assert PROGRAM is not None
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        self._inbox: list[dict[str, Any]] = []
        self._left = b""
        self._number = 0
        read_by_it, self._to = os.pipe()
        self._from, written_by_it = os.pipe()

        def place_pipes() -> None:
            # first out of the way: either may be 3 or 4 already
            first, second = os.dup(read_by_it), os.dup(written_by_it)
            high_first, high_second = os.dup2(first, 250), os.dup2(second, 251)
            os.dup2(high_first, 3)
            os.dup2(high_second, 4)

        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={self._profile}"],
            pass_fds=(3, 4),
            preexec_fn=place_pipes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_by_it)
        os.close(written_by_it)
        return self

    def __exit__(self, *_what: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call("Page.setLifecycleEventsEnabled", enabled=True)
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.load(url)
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        end = time.monotonic() + PATIENCE
        while True:
            for answer in self._receive(end - time.monotonic()):
                if answer.get("id") == self._number:
                    fault = answer.get("error", {}).get("message")
                    if fault == "Inspected target navigated or closed":
                        raise Navigated(method)
                    assert fault is None, f"{method}: {fault}"
                    return answer["result"]

    def await_event(self, session: str, method: str, **what: Any) -> None:
        """Return once an event with these parameters has come, now or before."""
        end = time.monotonic() + PATIENCE
        while not any(what.items() <= event.items() for event in self.events(session, method)):
            self._receive(end - time.monotonic())

    def events(self, session: str, method: str) -> list[dict[str, Any]]:
        return [e["params"] for e in self._inbox if e.get("sessionId") == session and e.get("method") == method]

    def _receive(self, seconds: float) -> list[dict[str, Any]]:
        ready, _, _ = select.select([self._from], [], [], max(seconds, 0))
        assert ready, "the browser does not answer"
        data = os.read(self._from, 2**20)
        assert data, "the browser ended"
        *whole, self._left = (self._left + data).split(b"\0")
        messages = [json.loads(part) for part in whole]
        self._inbox += [message for message in messages if "id" not in message]
        return messages


class Page:
    """One page in a context of its own."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def load(self, url: str) -> None:
        """Go to an address, be it the same again, and wait for the new document.

        Nothing is asked of the page in between: the browser answers a question that meets the change of documents
        with an error.
        """
        gone = self.call("Page.navigate", url=url)
        assert "errorText" not in gone, f"{url}: {gone['errorText']}"
        self._browser.await_event(self._session, "Page.lifecycleEvent", name="load", loaderId=gone["loaderId"])

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, check: Callable[[], object]) -> None:
        """Ask until it is so. A page that goes elsewhere, as Gradio's does when it was cut off, is asked again."""

        def holds() -> object:
            try:
                return check()
            except Navigated:
                return False

        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, "the page did not come to it in time"
            time.sleep(0.05)

    def frame(self) -> None:
        """Wait until what was asked for has been drawn."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    @property
    def faults(self) -> list[str]:
        """Everything that went wrong, as the browser's console has it."""
        events = self._browser.events
        found = [e["exceptionDetails"]["text"] for e in events(self._session, "Runtime.exceptionThrown")]
        found += [
            str(e["args"])
            for e in events(self._session, "Runtime.consoleAPICalled")
            if e["type"] in ("error", "warning", "assert")
        ]
        found += [
            f"{e['entry']['text']} {e['entry'].get('url', '')}"
            for e in events(self._session, "Log.entryAdded")
            # software drawing is what a test without a GPU has; the hint is about reading pixels back
            if e["entry"]["level"] in ("error", "warning") and "GPU stall due to ReadPixels" not in e["entry"]["text"]
        ]
        return found

    @property
    def requests(self) -> list[str]:
        """The start of every address asked for, pictures inside the page left out."""
        sent = self._browser.events(self._session, "Network.requestWillBeSent")
        addresses = [event["request"]["url"][:200] for event in sent]
        return [address for address in addresses if not address.startswith("data:")]

    def picture(self, selector: str | None = None) -> np.ndarray:
        """(H, W, 3) what is seen: the whole page, or the box of one element."""
        clip = None
        if selector is None:
            box = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": box["width"], "height": box["height"], "scale": 1}
        else:
            box = self.evaluate(
                f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                "return [b.x + scrollX, b.y + scrollY, b.width, b.height]; })()"
            )
            clip = {**dict(zip(("x", "y", "width", "height"), box, strict=True)), "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    def save(self, path: Path) -> None:
        Image.fromarray(self.picture()).save(path)
