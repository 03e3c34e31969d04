"""Output that nobody reads, that has no room, or that would take over a terminal; signals that come twice."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from kiss3d_cli.cli import streams
from kiss3d_cli.core.errors import OutputFailed, from_exception
from kiss3d_cli.core.printable import printable, printable_json
from patience import PATIENCE

CODE = "from kiss3d_cli.cli.app import main; main()"
HARMFUL = "\x1b]0;owned\x07\x1b[2J\r\u202egnp.exe\u2066\x9b31m\udcff\u200b"


def test_nothing_printed_reaches_the_terminal_as_a_command():
    shown = printable(f"a {HARMFUL} ü日🦊\n\tb")
    assert shown.startswith("a \\x1b]0;owned\\x07\\x1b[2J\\x0d\\u202egnp.exe\\u2066\\x9b31m\\udcff\\u200b ü日🦊\n\tb")
    text = printable_json(json.dumps({HARMFUL: HARMFUL}, ensure_ascii=False))
    assert json.loads(text) == {HARMFUL: HARMFUL}
    assert text.isascii()


@pytest.mark.parametrize("error", sorted(errno.errorcode))
@pytest.mark.parametrize("doing", ["read", "write", None])
def test_every_error_of_the_system_is_told_in_words(error, doing):
    fault = OSError(error, os.strerror(error), "some/file")
    if doing is not None:
        fault.doing = doing
    known = from_exception(fault)
    assert known is not None
    assert known.exit_code in (2, 3, 4)
    assert known.place == "some/file"
    assert known.hint
    if known.cause != "the disk is full":
        words = {"read": "can't be read: ", "write": "can't be written to: ", None: "can't be used: "}
        assert words[doing] in known.cause


def test_a_user_without_a_home():
    known = from_exception(RuntimeError("Could not determine home directory."))
    assert known.exit_code == 3
    assert "HOME" in known.hint


def test_what_a_library_raises_as_an_os_error_is_none_of_the_system():
    assert from_exception(OSError("image file is truncated")) is None


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "gone"), ValueError("closed")])
def test_a_message_that_can_not_be_printed_is_lost(monkeypatch, fault):
    class Broken:
        def write(self, _text):
            raise fault

        def fileno(self):
            raise OSError

    monkeypatch.setattr(streams, "_closed", set())
    monkeypatch.setattr(sys, "stderr", Broken())
    streams.note("x")
    monkeypatch.setattr(sys, "stdout", Broken())
    with pytest.raises(OutputFailed) as caught:
        streams.show("x")
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (">/dev/full", 7),
        (">&-", 7),
        ("2>/dev/full >/dev/full", 7),
        ("2>&- >/dev/null", 0),
        ("2>/dev/full >/dev/null", 0),
        ("<&- >/dev/null", 0),
        ("| true; exit ${PIPESTATUS[0]}", 7),
    ],
)
def test_failing_streams(tmp_path, how, code):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{CODE}' --version {how}"], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(("how", "code"), [("<&- >&- 2>&-", 7), ("<&- 2>&- >/dev/null", 0)])
def test_a_run_without_any_streams(tmp_path, picture, how, code):
    """Python has no sys.stderr at all then: whoever asks whether it is a terminal must not fail."""
    options = f"--preset draft --set preprocess.size=64 --until preprocess --out {tmp_path}"
    done = subprocess.run(["bash", "-c", f"{sys.executable} -c '{CODE}' run {picture} {options} {how}"])
    assert done.returncode == code
    assert len(list(tmp_path.glob("*/preprocess/manifest.json"))) == 1


STOPPED = """
import os, signal, sys, time
from kiss3d_cli.cli.terminal import handles_errors
@handles_errors
def work():
    try:
        print("ready", flush=True)
        time.sleep(3600)
    finally:
        print("cleaning", flush=True)
        time.sleep(3600 if "twice" in sys.argv else 0)
import typer
try:
    work()
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("times", ["once", "twice"])
def test_signals(name, times):
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, times],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # nohup and a shell's background jobs ignore some, and that is inherited
        preexec_fn=lambda: signal.signal(getattr(signal, name), signal.SIG_DFL),
    )
    for word in ("ready", "cleaning")[: 1 if times == "once" else 2]:
        assert process.stdout.readline().strip() == word
        process.send_signal(getattr(signal, name))
    err = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "kiss3d resume" in err or name == "SIGINT"


def test_nohup_is_respected():
    code = STOPPED.replace("time.sleep(3600)", "os.kill(os.getpid(), signal.SIGHUP)")
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "typed",
    [
        ("run", "a.png", "--\x1b[31mbad\u202e"),
        ("r\u202eun",),
        ("models", "\u2066pull"),
        ("resume", "a", "b\u202e\x9b"),
        ("report", "a", "--port\u200b"),
    ],
)
def test_what_typer_says_of_wrong_usage_is_harmless_too(kiss3d, typed):
    answer = kiss3d(*typed)
    assert answer.code == 2
    assert "\\" in answer.err
    assert not set("\x1b\u202e\u2066\x9b\u200b") & set(answer.err)
