"""A fork of the tests' warm process is what a new process would be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import forks

pytestmark = pytest.mark.skipif(not forks.POSSIBLE, reason="needs Linux, and OMP_NUM_THREADS=1 as in make test")
CODE = """
import json, os, sys, threading
assert __name__ == "__main__" and sys.modules["__main__"].json is json
print(json.dumps([sys.argv, os.getcwd(), os.environ.get("KISS3D_TOLD"), os.getpid(), os.getsid(0) == os.getpid(),
    sys.stdin.read(), sys.stdout.encoding, sys.stderr.errors, sys.path[0], sorted(os.listdir("/proc/self/fd"))[:3],
    threading.active_count(), sorted(k for k in os.environ if not k.startswith("PYTEST_"))]))
print("said", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


def both(code: str, *arguments: str, **named):
    """Of a new process, then of a fork: exit status, output and messages."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    for kind in (subprocess.Popen, forks.Popen):
        with kind([sys.executable, "-c", code, *arguments], text=True, **{**pipes, **named}) as process:
            out, err = process.communicate("typed")
        assert (getattr(process, "_line", None) is not None) == (kind is forks.Popen), "one of them is a fork"
        yield process.returncode, out.replace(str(process.pid), "PID"), err


@pytest.mark.parametrize("session", [False, True])
def test_arguments_streams_folder_and_environment(tmp_path, session):
    environment = {**os.environ, "KISS3D_TOLD": "yes"}
    new, fork = both(CODE, "3", "ü", cwd=tmp_path, env=environment, start_new_session=session)
    assert new == fork
    assert new[0] == 3
    assert '"typed"' in new[1]


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.stdin.read(); raise ValueError('told')",
        "raise SystemExit('words')",
        "import os; os._exit(7)",
        "import atexit; atexit.register(print, 'at the end'); print('first', end='')",
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
    ],
)
def test_ends(code):
    new, fork = both(code)
    assert new[:2] == fork[:2]
    assert new[2].splitlines()[-1:] == fork[2].splitlines()[-1:]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_signals(name):
    number = getattr(signal, name)
    code = "import sys, time; print('ready', flush=True); time.sleep(3600)"
    process = forks.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == b"ready\n"
    assert process.poll() is None
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number
    assert process.poll() == -number


def test_no_random_numbers_are_shared():
    code = "import random, os; print(random.random(), os.urandom(8))"
    (_new, fork), (_other, again) = both(code), both(code)
    assert fork[1] != again[1]


@pytest.mark.parametrize(
    "named",
    [{"env": {**os.environ, "OMP_NUM_THREADS": "2"}}, {"preexec_fn": lambda: None}, {"env": {"PATH": "/"}}],
    ids=["threads", "prepared", "bare"],
)
def test_what_is_read_at_the_start_needs_a_new_process(named):
    code = "import sys; print('torch' in sys.modules)"
    assert forks.run([sys.executable, "-c", code], capture_output=True, **named).stdout == b"False\n"
