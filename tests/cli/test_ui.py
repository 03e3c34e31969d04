from __future__ import annotations

import socket

import pytest


def test_without_gradio_the_message_says_what_to_install(kiss3d, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = kiss3d("ui")
    assert answer.code == 3
    assert "pip install 'kiss3d[ui]'" in answer.err


def test_a_port_in_use_or_a_strange_host_is_said(kiss3d, tmp_path):
    pytest.importorskip("gradio", reason="gradio is not installed (pip install 'kiss3d[ui]')")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = kiss3d("ui", "--port", taken.getsockname()[1], "--out", tmp_path)
    assert answer.code == 2
    assert "can't listen there" in answer.err
    assert kiss3d("ui", "--host", "no.such.host.example", "--out", tmp_path).code == 2
