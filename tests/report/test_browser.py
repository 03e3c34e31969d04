"""The pages in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from browser import PROGRAM, Browser
from small_runs import small_run

from kiss3d_cli.report.run_report import write_report

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser():
    with Browser() as program:
        yield program


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return write_report(small_run(tmp_path_factory.mktemp("browser")))


def drawn(page) -> np.ndarray:
    """(H, W) where the viewer shows something that is not its background."""
    page.wait_for(lambda: page.evaluate("document.getElementById('viewer-canvas').dataset.drawn"))
    page.frame()
    picture = page.picture("#viewer-canvas").astype(int)
    return np.abs(picture - picture[20, 20]).max(-1) > 24


def choose(page, selector: str) -> np.ndarray:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
    page.frame()
    return page.picture("#viewer-canvas").astype(int)


def test_it_opens_from_disk_without_a_request_or_a_fault(browser, report):
    page = browser.open(report.as_uri())
    assert page.requests == [report.as_uri()]
    assert page.faults == []
    assert page.evaluate("document.title").endswith(" - kiss3d"), "a caption is text, not a program"
    assert page.evaluate("[...document.images].every((image) => !image.src || image.naturalWidth > 0)")


def test_the_viewer_draws_the_mesh_in_every_mode(browser, report):
    page = browser.open(report.as_uri())
    assert 0.05 < drawn(page).mean() < 0.6
    modes = page.evaluate("[...document.querySelectorAll('[data-mode]')].map((button) => button.dataset.mode)")
    assert modes == ["texture", "shaded", "wireframe", "normals", "error"]
    pictures = [choose(page, f"[data-mode={mode}]") for mode in modes]
    for i, first in enumerate(pictures):
        for second in pictures[:i]:
            assert np.abs(first - second).max(-1).mean() > 1, "each mode has a picture of its own"
    assert page.faults == []


def test_the_viewer_shows_what_the_picture_shows(browser, report):
    """The figure has a yellow head above a blue body, and one arm: to the right from the front, left from the back."""
    page = browser.open(report.as_uri())
    drawn(page)

    def centers(picture):
        yellow = (picture[..., 0] > 180) & (picture[..., 1] > 150) & (picture[..., 2] < 140)
        blue = (picture[..., 2] > 120) & (picture[..., 0] < 100)
        assert min(yellow.sum(), blue.sum()) > 200
        return [np.argwhere(mask).mean(0) for mask in (yellow, blue)]

    head, body = centers(choose(page, "[data-side='0']"))
    assert head[0] < body[0] - 40, "rows go down"
    assert head[1] < body[1] - 10
    head, body = centers(choose(page, "[data-side='180']"))
    assert head[1] > body[1] + 10
    normals = choose(page, "[data-mode=normals]")
    front = choose(page, "[data-side='0']")
    for picture in (normals, front):
        middle = picture[picture.shape[0] // 2 - 20 : picture.shape[0] // 2 + 20, picture.shape[1] // 2]
        assert middle[:, 2].mean() > 200, "what faces the camera is blue"


def test_dragging_turns_it(browser, report):
    page = browser.open(report.as_uri())
    drawn(page)
    before = choose(page, "[data-side='0']")
    for kind, x, y in (("mousePressed", 400, 300), ("mouseMoved", 500, 310), ("mouseReleased", 500, 310)):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
    page.frame()
    turned = page.picture("#viewer-canvas").astype(int)
    assert np.abs(before - turned).max(-1).mean() > 1
    assert np.abs(choose(page, "[data-side='0']") - before).max() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_window_in_both_colour_schemes(browser, report, width, dark):
    page = browser.open(report.as_uri(), width=width, dark=dark)
    assert 0.03 < drawn(page).mean() < 0.7
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.picture()[2, 2].mean()
    assert paper < 60 if dark else paper > 200
    ink = page.evaluate("getComputedStyle(document.body).color.match(/\\d+/g).map(Number)")
    assert abs(np.mean(ink) - paper) > 120


def test_without_webgl_the_page_says_so(browser, report):
    page = browser.open("about:blank")
    page.call("Page.addScriptToEvaluateOnNewDocument", source="HTMLCanvasElement.prototype.getContext = () => null;")
    page.load(report.as_uri())
    assert "no WebGL 2" in page.evaluate("document.getElementById('viewer-message').textContent")
    assert page.evaluate("!document.getElementById('viewer-message').hidden")
