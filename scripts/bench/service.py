"""A real `kiss3d serve` under load: many clients that send pictures and ask how far they are, and kills meanwhile.

    python scripts/bench/service.py [--clients 50] [--minutes 10] [--kills 0] [--seconds 1] [--ask 0.5] [--seed 0]

The stages wait and write files of a draft's size (`scripts/toy_stages.py`), so that what is measured is the service.
Every client sends a picture with an Idempotency-Key, asks for its state every `--ask` seconds until it has ended, and
sends the next. After the time is over no more are sent, and all that were accepted are waited for.

With `--kills N` the service gets SIGKILL N times at random moments and is started again; clients ask again until it
answers. Then the times hold the restarts, and what counts is that every accepted run ends, once.

Prints the median, the 99th percentile and the longest answer by route, errors, runs, and the service's memory. Fails
if a run was lost, ended badly or was made twice, or if there was an answer that is an error.
"""

from __future__ import annotations

import argparse
import collections
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import toy_stages  # noqa: E402


class Server:
    """The service in a process of its own; it may be killed and started again."""

    def __init__(self, place: Path, seconds: float) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.out, self._log = place / "runs", place / "service.log"
        self._environment = {
            **toy_stages.plugged_in(place / "site"),
            toy_stages.LOG: str(place / "toys.log"),
            "OMP_NUM_THREADS": "1",
        }
        self._options = [*toy_stages.chosen(seconds, 400), "--rate", "0", "--longest-queue", "100000"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "kiss3d_cli", "serve", "--out", str(self.out), "--port", str(self.port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*command, *self._options], env=self._environment, stderr=log)
        while True:
            try:
                httpx.get(f"{self.url}/v1/health", timeout=60)
                return
            except httpx.TransportError:
                if self.process.poll() is not None:
                    raise SystemExit(self._log.read_text(encoding="utf-8")) from None
                time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def memory(self) -> int:
        """Bytes of the process that answers."""
        try:
            return psutil.Process(self.process.pid).memory_info().rss
        except psutil.Error:
            return 0


class Load:
    """What the clients have seen."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seconds: dict[str, list[float]] = collections.defaultdict(list)
        self.errors: collections.Counter[str] = collections.Counter()
        self.ended: dict[str, str] = {}
        self.unreachable = 0
        self.over = threading.Event()


def ask(load: Load, route: str, client: httpx.Client, method: str, url: str, **given: Any) -> httpx.Response:
    """An answer; while nobody answers it asks again."""
    while True:
        began = time.perf_counter()
        try:
            answer = client.request(method, url, **given)
        except httpx.TransportError:
            with load.lock:
                load.unreachable += 1
            time.sleep(0.2)
            continue
        with load.lock:
            load.seconds[route].append(time.perf_counter() - began)
            if answer.status_code >= 400:
                load.errors[f"{route}: {answer.status_code}"] += 1
        return answer


def work(load: Load, url: str, number: int, picture: bytes, pause: float) -> None:
    """One client."""
    with httpx.Client(base_url=url, timeout=60) as client:
        for turn in range(10**9):
            if load.over.is_set():
                return
            key = {"Idempotency-Key": f"{number}-{turn}"}
            fields = {"until": toy_stages.LAST, "name": f"c{number}", "seed": str(turn)}
            files = {"picture": ("picture.png", picture)}
            answer = ask(load, "POST /v1/runs", client, "POST", "/v1/runs", headers=key, data=fields, files=files)
            if answer.status_code >= 400:
                return
            run = answer.json()["id"]
            while True:
                answer = ask(load, "GET /v1/runs/{id}", client, "GET", f"/v1/runs/{run}")
                if answer.status_code >= 400 or answer.json()["state"] in ("done", "failed", "cancelled"):
                    break
                time.sleep(pause)
            state = f"status {answer.status_code}" if answer.status_code >= 400 else answer.json()["state"]
            with load.lock:
                load.ended[run] = state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a run")
    parser.add_argument("--ask", type=float, default=0.5, help="seconds between two questions of a client")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    place = Path(tempfile.mkdtemp())
    Image.effect_noise((512, 512), 40).save(place / "picture.png")
    picture = (place / "picture.png").read_bytes()
    server, load = Server(place, given.seconds), Load()
    clients = [
        threading.Thread(target=work, args=(load, server.url, number, picture, given.ask), daemon=True)
        for number in range(given.clients)
    ]
    for client in clients:
        client.start()
    end = time.monotonic() + 60 * given.minutes
    memory: list[int] = []
    kills = sorted(rng.uniform(0.02, 0.95) for _ in range(given.kills))
    moments = collections.deque(end - 60 * given.minutes * (1 - share) for share in kills)
    while (now := time.monotonic()) < end:
        if moments and now >= moments[0]:
            moments.popleft()
            server.kill()
            server.start()
        memory.append(server.memory())
        time.sleep(min(0.5, max(0.0, end - now)))
    load.over.set()
    for client in clients:
        client.join()
    report(server, load, memory, given.kills)
    server.kill()
    shutil.rmtree(place)


def report(server: Server, load: Load, memory: list[int], kills: int) -> None:
    print("| route | answers | median, ms | 99 %, ms | longest, ms |")
    print("|---|---:|---:|---:|---:|")
    for route, seconds in sorted(load.seconds.items()):
        found = sorted(1000 * second for second in seconds)
        high = found[min(len(found) - 1, int(0.99 * len(found)))]
        print(f"| {route} | {len(found)} | {statistics.median(found):.1f} | {high:.1f} | {found[-1]:.1f} |")
    tenth = max(1, len(memory) // 10)
    early, late = statistics.median(memory[tenth : 3 * tenth]) / 2**20, statistics.median(memory[-tenth:]) / 2**20
    states = collections.Counter(load.ended.values())
    folders = {path.parent.name for path in server.out.glob("[!.]*/run.json")}
    print(f"{len(load.ended)} runs: {dict(states)}; {len(folders)} run folders; {kills} kills, after which", end=" ")
    print(f"{load.unreachable} questions found nobody; errors: {dict(load.errors) or 'none'}")
    print(f"memory of the service: {early:.0f} MiB early, {late:.0f} MiB at the end")
    faults = [f"{count} runs: {state}" for state, count in states.items() if state != "done"]
    faults += [f"{count} answers to {route}" for route, count in load.errors.items()]
    if folders != set(load.ended):
        faults.append(f"{len(folders)} run folders, and {len(load.ended)} runs that clients know of")
    if faults:
        raise SystemExit("; ".join(faults))


if __name__ == "__main__":
    main()
