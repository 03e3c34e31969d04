"""Ctrl-C in the terminal of `kiss3d ui`."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
from asking import ask, fetch

import forks
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.run_folder import find_runs
from kiss3d_cli.serve.tickets import Tickets
from patience import PATIENCE
from pictures import QUICK, draw_figure

pytestmark = pytest.mark.skipif(
    find_spec("gradio") is None, reason="gradio is not installed (pip install 'kiss3d[ui]')"
)


def wait_for(process: subprocess.Popen, check) -> None:
    end = time.monotonic() + PATIENCE
    while not check():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_run_at_work_is_left_in_order(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    out, url = tmp_path / "out", f"http://127.0.0.1:{port}"
    code = f"from kiss3d_cli.cli.app import app; app(['ui', '--out', {str(out)!r}, '--port', '{port}'])"
    process = forks.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        workers=True,
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def refines() -> bool:
        logs = [
            line for run in find_runs(out) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        return any(entry.get("stage") == "refine" for entry in map(json.loads, logs))

    try:
        wait_for(process, listens)
        picture = draw_figure(tmp_path / "figure.png").read_bytes()
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="figure.png"\r\n\r\n'
        body = part + picture + b"\r\n--x--\r\n"
        _status, answer = fetch(url, "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
        given = {"path": json.loads(answer)[0], "orig_name": "figure.png", "meta": {"_type": "gradio.FileData"}}
        settings = "\n".join([*QUICK, "refine.steps=1000"])
        assert ask(url, "begin", given, "draft", 1, 1000, None, settings)["success"]
        wait_for(process, refines)
        process.send_signal(signal.SIGINT)
        _out, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    (run,) = find_runs(out)
    assert process.returncode == 130, said
    assert f"kiss3d resume {run.path}" in said
    assert "Traceback" not in said
    events = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert not [entry for entry in events if entry.get("status") == "failed"]
    assert [ticket.state for _name, ticket in Tickets(out).read_all()] == ["running"], "the next start goes on with it"
    assert launch.resume(run.path, ["refine.steps=1"]).mesh is not None
