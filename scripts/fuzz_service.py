"""Fuzzes a real `kiss3d serve` against its own OpenAPI description with schemathesis.

    pip install schemathesis            # in an environment of its own: it brings a pytest plugin
    python scripts/fuzz_service.py [--schemathesis PATH] [--examples 50] [--seed 0] [--token]

The service is started with stages that cost nothing (`scripts/toy_stages.py`). Every answer must be one that the
description has: no traceback, the right kind of body, the right headers, and what breaks the description must be
refused. One check is left out: data that fits the description need not be accepted, since no schema can say what a
picture is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import toy_stages

TOKEN = "a-token-for-fuzzing-only"  # of a service that ends with this script
LEFT_OUT = "positive_data_acceptance"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemathesis", default=shutil.which("schemathesis") or "schemathesis")
    parser.add_argument("--examples", type=int, default=50, help="of each route")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--token", action="store_true", help="the service wants a token, and is sent one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        place = Path(folder)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "kiss3d_cli", "serve", "--out", str(place / "runs"), "--port", str(port)]
        command += [*toy_stages.chosen(0, 1), "--rate", "0"]
        headers = []
        if given.token:
            (place / "tokens").write_text(TOKEN + "\n", encoding="utf-8")
            command += ["--token-file", str(place / "tokens")]
            headers = ["--header", f"Authorization: Bearer {TOKEN}"]
        log = place / "service.log"
        with log.open("wb") as errors:
            service = subprocess.Popen(command, env=toy_stages.plugged_in(place / "site"), stderr=errors)
        try:
            url = f"http://127.0.0.1:{port}"
            while True:
                try:
                    urllib.request.urlopen(f"{url}/health").close()
                    break
                except OSError:
                    if service.poll() is not None:
                        raise SystemExit(log.read_text(encoding="utf-8")) from None
                    time.sleep(0.2)
            fuzz = [given.schemathesis, "run", f"{url}/openapi.json", *headers, "--checks", "all"]
            fuzz += ["--exclude-checks", LEFT_OUT, "--continue-on-failure", "--seed", str(given.seed)]
            fuzz += ["--max-examples", str(given.examples), "--request-timeout", "60"]
            code = subprocess.run(fuzz, cwd=place, env={**os.environ, "NO_COLOR": "1"}).returncode
        finally:
            service.kill()
            service.wait()
        said = log.read_text(encoding="utf-8")
    if "Traceback" in said:
        print(said[-4000:], file=sys.stderr)
        code = code or 1
    raise SystemExit(code)


if __name__ == "__main__":
    main()
