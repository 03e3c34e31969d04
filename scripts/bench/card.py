"""Everything that needs a CUDA card, in one go and within a budget of time: tests, rates, memory, cost per picture.

PYTHONPATH=src:scripts:tests python scripts/bench/card.py --out RESULTS [--seconds 320] [--only a b c d e]

    a  the tests marked `gpu`, but for Flux at full size
    b  operations a second of the training steps of LVSM and WaveMesh-Diff, for several batch sizes
    c  full-size weights of random numbers, 40 GB and 17 GB more when prepared; written while a runs
    d  the bundle of Flux, with torch's allocator capped to 12 GiB
    e  many pictures in one run against one run each, preset 12gb; f the same with preset fast (25 GB more)

Each is a process of its own with its own limit of time, and logs to a file in RESULTS. What no time is left for is
skipped. `card.json` has the results so far at any time; a table of them is printed at the end.

Random weights show nothing. `checkpoints.prm` makes the reconstruction a ball, so that there is a mesh; a short run
finds the first stage that refuses what the others made of noise, and the measured runs end before it. That is
`reconstruct`: the bundle of a random Flux has no normals, so the runs end with `bundle`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).parents[2]
SCRIPTS, TESTS = ROOT / "scripts", ROOT / "tests"
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", "-s", "--durations=0", "-W", "default"]
VIEWS, FLUX = TESTS / "models" / "test_views_gpu.py", TESTS / "methods" / "test_flux_gpu.py"
SMALL = (
    "geometry/test_flexicubes.py",
    "geometry/test_isomer.py",
    "geometry/rasterize/test_backends.py",
    "models/test_offload.py",
    "models/test_fp8.py",
    "models/test_lrm.py",
    "models/test_lvsm.py",
    "models/test_wavemesh.py",
    "training/test_training_on_a_gpu.py",
)
WRITERS = (["flux"], ["zero123plus"], ["prm"], ["florence2", "isnet", "dinov2"])
STAGES = ("preprocess", "caption", "multiview", "reference", "prompt", "bundle", "reconstruct", "refine")
INSTEAD = {
    "caption": ("caption.method=describe",),
    "multiview": ("multiview.method=inflate",),
    "reference": ("multiview.method=inflate", "reference.method=surface"),
    "refine": ("refine.steps=0",),
}
"""Methods without a network, for a stage that refuses what random weights made."""
SETTINGS = ("device.memory_limit=12", "caption.max_tokens=150")
"""Random words have no end: a caption gets as many as a usual one has."""
SHORT = ("caption.max_tokens=16", "multiview.steps=2", "bundle.steps=2", "refine.steps=2", "refine.texture=false")
TARGETS = {"12gb": 0.6, "fast": 0.45}
LEAST = 8
"""Seconds below which nothing is begun."""


class Card:
    """The budget, the logs and what was found.

    Attributes:
        out: of the results. work: of the weights and the runs.
        found: what `card.json` says.
    """

    def __init__(self, out: Path, work: Path, seconds: float) -> None:
        self.out, self.work, self.root = out, work, work / "weights"
        self.begun = time.monotonic()
        self.end = self.begun + seconds
        self.found: dict[str, Any] = {"machine": machine(), "weights": str(self.root), "commands": []}
        self.lines: list[str] = []
        out.mkdir(parents=True, exist_ok=True)
        self.save()

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def save(self) -> None:
        text = json.dumps({**self.found, "table": self.lines}, indent=1, default=str)
        (self.out / "card.json").write_text(text + "\n", encoding="utf-8")

    def say(self, what: str, result: str) -> None:
        self.lines.append(f"| {what} | {result} |")
        print(f"[{time.monotonic() - self.begun:5.0f} s] {what}: {result}", flush=True)
        self.save()

    def start(self, log: str, command: list[Any]) -> subprocess.Popen[bytes]:
        """A process in a group of its own, that logs to `LOG.log`."""
        words = [str(word) for word in command]
        self.found["commands"].append(shlex.join(words))
        paths = [str(ROOT / "src"), str(SCRIPTS), str(TESTS), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
        environment["HF_HUB_OFFLINE"] = "1"
        if self.root.is_dir():
            environment["KISS3D_FULL_MODELS"] = str(self.root)
        with (self.out / f"{log}.log").open("ab") as file:
            file.write(f"\n$ {shlex.join(words)}\n".encode())
            file.flush()
            return subprocess.Popen(
                words, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT, start_new_session=True
            )

    def wait(self, process: subprocess.Popen[bytes], limit: float) -> str:
        """`done`, `failed (N)` or `ended after N s`."""
        began = time.monotonic()
        try:
            code = process.wait(max(1.0, min(limit, self.left)))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"ended after {time.monotonic() - began:.0f} s"
        return "done" if code == 0 else f"failed ({code})"

    def run(self, what: str, log: str, command: list[Any], limit: float) -> str | None:
        """How a process ended; None if there was no time left for it."""
        if self.left < LEAST:
            self.say(what, "skipped: no time left")
            return None
        began = time.monotonic()
        how = self.wait(self.start(log, command), limit)
        print(f"[{time.monotonic() - self.begun:5.0f} s] {what}: {how}, {time.monotonic() - began:.0f} s", flush=True)
        return how

    def log(self, name: str) -> str:
        path = self.out / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def tests(self, what: str, report: Path, how: str | None) -> None:
        """Count a junit report's tests, and keep what each one took and said."""
        rows = []
        for case in ElementTree.parse(report).iter("testcase") if report.is_file() else ():
            ended = next((e for e in case if e.tag in ("failure", "error", "skipped")), None)
            row = {"test": f"{case.get('classname')}::{case.get('name')}", "seconds": float(case.get("time", 0))}
            row["result"] = "passed" if ended is None else ended.tag
            rows.append(row if ended is None else {**row, "says": ended.get("message", "")[:600]})
        self.found.setdefault("tests", {})[what] = rows
        counts = {
            kind: sum(row["result"] == kind for row in rows) for kind in ("passed", "failure", "error", "skipped")
        }
        self.say(what, ", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or f"no report: {how}")


def machine() -> dict[str, Any]:
    there = torch.cuda.is_available()
    properties = torch.cuda.get_device_properties(0) if there else None
    return {
        "card": properties.name if properties else "none",
        "memory_gib": round(properties.total_memory / 2**30, 1) if properties else 0,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def roomy() -> Path:
    """The folder with the most room: memory's, or the one for temporary files."""
    places = [path for path in (Path("/dev/shm"), Path(tempfile.gettempdir())) if path.is_dir()]
    return max(places, key=lambda path: shutil.disk_usage(path).free)


def weights_and_tests(card: Card, items: set[str]) -> None:
    """c and a: the weights are written while the small tests run; the tests of the views follow their own."""
    began = time.monotonic()
    writers = []
    for names in WRITERS if "c" in items else ():
        more = ["--schnell"] if "f" in items and names == ["flux"] else []
        command = [sys.executable, SCRIPTS / "make_checkpoints.py", "--size", "full", "--out", card.root, *more]
        writers.append(card.start("checkpoints", [*command, "--only", *names]))
    reports = [card.work / f"{name}.xml" for name in ("small", "loads", "views")]
    if "a" in items:
        small = card.start("tests", [*PYTEST, *(TESTS / name for name in SMALL), f"--junitxml={reports[0]}"])
        views = []
        if all(card.wait(writers[i], 80) == "done" for i in (1, 3) if writers):
            for log, chosen, report in (("views-loads", "load", reports[1]), ("views", "not load", reports[2])):
                views.append(card.start(log, [*PYTEST, VIEWS, "-k", chosen, f"--junitxml={report}"]))
        card.tests("tests marked gpu", reports[0], card.wait(small, 90))
        hows = [card.wait(process, 100 - (time.monotonic() - began)) for process in views]
        for how, report, what in zip(hows, reports[1:], ("tests of loads", "tests of views"), strict=False):
            card.tests(what, report, how)
    if writers:
        hows = [card.wait(process, 120 - (time.monotonic() - began)) for process in writers]
        size = sum(path.stat().st_size for path in card.root.rglob("*") if path.is_file())
        ended = "done" if set(hows) == {"done"} else ", ".join(hows)
        card.say("weights written", f"{size / 1e9:.1f} GB, {time.monotonic() - began:.0f} s at most ({ended})")


def rates(card: Card, device: str) -> None:
    """b, one process for each network; the best of the batch sizes."""
    best = {}
    for name, batches, pattern in (
        ("lvsm", (256, 1024, 2048), r"batch (\d+), .*?: ([\d.]+) of it"),
        ("wavemesh", (64, 128, 256), r"batch (\d+): .*share ([\d.]+)"),
    ):
        command = [sys.executable, SCRIPTS / "bench" / f"{name}.py", "--rate", "--device", device, "--batch", *batches]
        how = card.run(f"rate of {name}", "rates", command, 40)
        found = re.findall(pattern, card.log("rates").rpartition(f"{name}.py")[2])
        best[name] = {int(batch): float(share) for batch, share in found}
        top = max(best[name], key=best[name].get, default=None)  # type: ignore[arg-type]
        result = how if top is None else f"{best[name][top]:.2f} at batch {top} ({best[name]})"
        card.say(f"{name}: share of the matrix product's rate", result or "skipped")
    card.found["rates"] = best


def flux(card: Card) -> None:
    """d."""
    report = card.work / "flux.xml"
    how = card.run("Flux in 12 GiB", "flux", [*PYTEST, FLUX, f"--junitxml={report}"], 110)
    card.tests("tests of Flux at full size", report, how)
    for line in card.log("flux").splitlines():
        if re.match(r"\| [\d.]+ \| (prompt|bundle)", line) or "TFLOP/s measured" in line:
            card.say("Flux", line.strip("| ").replace(" | ", ", "))


def probe(card: Card, preset: str, device: str) -> tuple[list[str], str]:
    """A short run: the settings with which the preset gets through on random weights, and the last stage that does."""
    sys.path.insert(0, str(SCRIPTS))
    from many_pictures import draw_pictures

    settings = [*SETTINGS, f"device.name={device}", f"models.root={card.root}"]
    picture = draw_pictures(card.work / "pictures", 1)[0]
    out, last = card.work / f"probe-{preset}", ""
    for _attempt in range(3):
        given = [part for setting in [*settings, *SHORT] for part in ("--set", setting)]
        folder = next((path.parent for path in out.glob("*/run.json")), None)
        start = ["run", picture, "--preset", preset, "--out", out] if folder is None else ["resume", folder]
        command = [sys.executable, SCRIPTS / "bench" / "loads.py", card.work / "loads.json", *start, *given]
        how = card.run(f"{preset}, a short run", "batch", command, 75)
        stages = {path.parent.name for path in out.glob("*/*/manifest.json")}
        missing = next((stage for stage in STAGES if stage not in stages), None)
        if missing is None:
            return settings, STAGES[-1]
        last = STAGES[max(0, STAGES.index(missing) - 1)]
        card.say(f"{preset}: {missing}", f"no result ({how})")
        if missing not in INSTEAD or how is None or how.startswith("ended"):
            break
        settings += [setting for setting in INSTEAD[missing] if setting not in settings]
    return settings, last


def pictures(card: Card, preset: str, device: str, count: int) -> None:
    """e and f."""
    if card.left < LEAST:
        card.say(f"{preset}, many pictures", "skipped: no time left")
        return
    settings, until = probe(card, preset, device)
    given = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, SCRIPTS / "bench" / "batch.py", "measure", "--clock", "--preset", preset]
    command += ["--count", count, "--singles", 1, "--until", until, *given]
    how = card.run(f"{preset}, {count} pictures", "batch", command, 240)
    text = card.log("batch").rpartition("batch.py measure")[2]
    ratio = re.search(r"by the clock a picture: ([\d.]+) s alone, ([\d.]+) s together, ratio ([\d.]+)", text)
    alone = re.search(r"alone, by the clock: .*", text)
    told = ratio[0] if ratio else f"{how}; {alone[0] if alone else 'nothing measured'}"
    card.found.setdefault("pictures", {})[preset] = {"until": until, "settings": settings, "result": told}
    card.say(f"{preset}, {count} pictures until {until}, target {TARGETS[preset]}", told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the results")
    parser.add_argument("--seconds", type=float, default=320, help="for all of it")
    parser.add_argument("--only", nargs="*", choices=list("abcdef"), default=list("abcde"))
    parser.add_argument("--work", type=Path, help="an empty folder with room for 60 GB")
    parser.add_argument("--root", type=Path, help="full-size weights that are there already, without c")
    parser.add_argument("--count", type=int, default=4, help="pictures of e")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    items = set(options.only)
    work = options.work or Path(tempfile.mkdtemp(prefix="kiss3d-card-", dir=roomy()))
    work.mkdir(parents=True, exist_ok=True)
    card = Card(options.out.resolve(), work.resolve(), options.seconds)
    card.root = (options.root or card.root).resolve()
    print(f"{card.found['machine']}\nweights and runs in {work}, {shutil.disk_usage(work).free / 2**30:.0f} GiB free")
    if items & {"a", "c"}:
        weights_and_tests(card, items)
    if "b" in items:
        rates(card, options.device)
    if "d" in items:
        flux(card)
    if "e" in items:
        pictures(card, "12gb", options.device, options.count)
    if "f" in items:
        for path in card.root.glob("Comfy-Org/**/*.prepared"):
            path.unlink()  # room for that of the merge
        pictures(card, "fast", options.device, options.count)
    print(f"\n{card.found['machine']}\n\n| what | result |\n|---|---|")
    print("\n".join(card.lines))
    if options.work is None:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
