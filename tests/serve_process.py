"""A real service in a process of its own, and a client."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import psutil

import forks
from pictures import QUICK

QUICKEST = ("preprocess.size=64", "preprocess.method=grabcut", *QUICK[1:])
SMALL = ("--preset", "draft", *(part for setting in QUICKEST for part in ("--set", setting)))


class Server:
    """`kiss3d serve` on a free port of this machine."""

    def __init__(self, out: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.out, self._options = out, options
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)

    def start(self) -> Server:
        command = [sys.executable, "-m", "kiss3d_cli", "serve", "--out", str(self.out), "--port", str(self.port)]
        with self.out.with_suffix(".log").open("ab") as log:
            self.process = forks.Popen([*command, *SMALL, *self._options], stderr=log, workers=True)
        while True:
            try:
                self.client.get("/v1/health")
                return self
            except httpx.TransportError:
                assert self.process.poll() is None, self.out.with_suffix(".log").read_text(encoding="utf-8")
                time.sleep(0.1)

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGINT)
        self.client.close()
        return self.process.wait()

    def ended(self, run: str) -> dict:
        """The run once it has ended."""
        while True:
            found = self.client.get(f"/v1/runs/{run}").json()
            if found["state"] in ("done", "failed", "cancelled"):
                return found
            time.sleep(0.1)
