"""The page in a real browser."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import trimesh
from asking import ask, fetch

import forks
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.launch import Request, mesh_of
from kiss3d_cli.pipeline.measure import MeasureOptions, columns_of, measure_pair
from kiss3d_cli.pipeline.run_folder import find_runs
from kiss3d_cli.report.run_report import write_report
from kiss3d_cli.serve.service import Service
from kiss3d_cli.web.jobs import Jobs
from patience import PATIENCE
from pictures import QUICK, draw_figure
from report.browser import PROGRAM, Browser, Page

pytestmark = [
    # not imported here, where every worker would
    pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is not installed (pip install 'kiss3d[ui]')"),
    pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed (apt-get install chromium)"),
    pytest.mark.filterwarnings("ignore"),  # Gradio's and its server's own
]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The page's address, and the folder of runs behind it."""
    import uvicorn

    from kiss3d_cli.web.server import make_app

    outputs = tmp_path_factory.mktemp("ui") / "outputs"
    picture = draw_figure(outputs.parent / "before.png")
    request = Request({"picture": picture}, preset="draft", settings=QUICK, out=outputs)
    write_report(launch.start(launch.prepare(request)).folder)
    jobs, servers = Jobs(Service(outputs)), []

    async def serve() -> None:  # Gradio leaves event loops unclosed unless it is called within one
        app = make_app(jobs, outputs.parent / "uploads")
        config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1)
        servers.append(uvicorn.Server(config))
        await servers[0].serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    end = time.monotonic() + PATIENCE
    while not (servers and servers[0].started):
        assert thread.is_alive()
        assert time.monotonic() < end
        time.sleep(0.05)
    port = servers[0].servers[0].sockets[0].getsockname()[1]
    with forks.workers():
        yield f"http://127.0.0.1:{port}", outputs
        servers[0].should_exit = True
        thread.join(PATIENCE)


@pytest.fixture(scope="module")
def browser():
    with Browser() as program:
        yield program


def finished(outputs: Path) -> Path:
    """The run that was there before the page."""
    return next(run.path for run in find_runs(outputs) if run.path.name.startswith("before-"))


def has(page: Page, selector: str) -> None:
    page.wait_for(lambda: page.evaluate(f"!!document.querySelector({json.dumps(selector)})"))


def says(page: Page, selector: str, words: str) -> None:
    page.wait_for(lambda: words in (page.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText") or ""))


def click(page: Page, selector: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def upload(page: Page, selector: str, path: Path) -> None:
    root = page.call("DOM.getDocument", depth=0)["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
    page.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


def fill(page: Page, picture: Path, settings: tuple[str, ...]) -> None:
    has(page, "#picture input[type=file]")
    upload(page, "#picture input[type=file]", picture)
    has(page, "#picture img")
    has(page, "#more textarea")
    page.evaluate(
        "(() => { const area = document.querySelector('#more textarea');"
        f"area.value = {json.dumps(chr(10).join(settings))};"
        "area.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def test_a_picture_becomes_a_mesh_that_the_page_shows(browser, site, tmp_path):
    url, outputs = site
    page = browser.open(url)
    fill(page, draw_figure(tmp_path / "figure.png"), [line for line in QUICK if "target_faces" not in line])
    click(page, "#start")
    says(page, "#state", "preprocess")
    has(page, "#result iframe")
    says(page, "#state", "Done")
    folder = next(run for run in find_runs(outputs) if run.path.name.startswith("figure-"))
    assert mesh_of(folder) is not None
    assert folder.record().config["refine.target_faces"] == 60_000, "draft's own, where nothing was entered"
    assert page.evaluate("document.querySelector('#result .files a').href").endswith("mesh.glb")
    size = page.evaluate(
        "fetch(document.querySelector('#result .files a').href).then((a) => a.blob()).then((b) => b.size)"
    )
    assert size == mesh_of(folder).stat().st_size

    def yellow_and_blue() -> bool:
        picture = page.picture("#result iframe").astype(int)
        yellow = (picture[..., 0] > 180) & (picture[..., 1] > 150) & (picture[..., 2] < 140)
        blue = (picture[..., 2] > 120) & (picture[..., 0] < 100)
        return min(np.count_nonzero(yellow), np.count_nonzero(blue)) > 1000

    page.wait_for(yellow_and_blue)
    assert all(address.startswith(url) for address in page.requests), "nothing from elsewhere"


def refines(page: Page) -> None:
    """Wait until the page shows that the refinement is at work."""
    rows = "[...document.querySelectorAll('#state tr')].map((row) => row.innerText)"
    page.wait_for(lambda: any("refine" in row and "running" in row for row in page.evaluate(rows)))


def test_a_cancel_and_a_reload_in_the_middle_lose_nothing(browser, site, tmp_path):
    url, outputs = site
    page = browser.open(url)
    fill(page, draw_figure(tmp_path / "second.png"), (*QUICK, "refine.steps=400"))
    click(page, "#start")
    refines(page)
    page.load(url)
    refines(page)
    has(page, "#cancel")
    folder = next(run for run in find_runs(outputs) if run.path.name.startswith("second-"))
    click(page, "#cancel")
    says(page, "#state", "Cancelled")
    has(page, "#result iframe")
    assert launch.resume(folder.path, ["refine.steps=1"], until="caption").mesh is None, "fewer steps when it goes on"
    page.load(url)
    says(page, "#state", "Cancelled")
    has(page, "#resume")
    click(page, "#resume")
    says(page, "#state", "Done")
    assert page.evaluate("document.querySelector('#state').innerText").count("skipped") >= 5
    assert mesh_of(folder) is not None


def choose(page: Page, selector: str, option: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector + ' input')}).focus()")
    find = f"[...document.querySelectorAll('[role=option]')].find((o) => o.innerText.includes({json.dumps(option)}))"
    page.wait_for(lambda: page.evaluate(f"!!{find}"))
    page.evaluate(f"{find}.dispatchEvent(new MouseEvent('mousedown', {{bubbles: true}}))")
    page.wait_for(lambda: page.evaluate(f"document.querySelector({json.dumps(selector + ' input')}).value") == option)


def told(page: Page, words: str) -> None:
    """Wait for a message of the page, and take it away."""
    messages = "[...document.querySelectorAll('.toast-body')]"
    page.wait_for(lambda: words in page.evaluate(f"{messages}.map((message) => message.innerText).join()"))
    page.evaluate(f"{messages}.forEach((message) => message.querySelector('button').click())")


def test_a_file_that_is_no_picture_is_told_and_nothing_is_made(browser, site, tmp_path):
    url, outputs = site
    before = find_runs(outputs)
    (tmp_path / "text.png").write_text("no picture")
    page = browser.open(url)
    has(page, "#start")
    click(page, "#start")
    told(page, "no file was given")
    upload(page, "#picture input[type=file]", tmp_path / "text.png")
    has(page, "#picture img")
    click(page, "#start")
    told(page, "text.png: the file is not a picture in a known format")
    assert [run.path for run in find_runs(outputs)] == [run.path for run in before]


def test_a_run_is_measured_against_an_uploaded_mesh(browser, site, tmp_path, monkeypatch):
    from kiss3d_cli.web import server

    monkeypatch.setattr(server, "MeasureOptions", functools.partial(MeasureOptions, points=10_000))
    url, outputs = site
    run = finished(outputs)
    (tmp_path / "empty.obj").write_text("# nothing\n")
    ball = trimesh.creation.icosphere(subdivisions=2)
    ball.apply_scale([0.5, 0.8, 0.4])
    ball.export(tmp_path / "egg.ply")
    page = browser.open(url)
    has(page, "#other input[type=file]")
    choose(page, "#run", run.name)
    click(page, "#aligned input[value=none]")
    upload(page, "#other input[type=file]", tmp_path / "empty.obj")
    says(page, "#other", "empty")
    click(page, "#measure")
    told(page, "empty.obj: the file has no geometry")
    assert not page.evaluate("document.querySelector('#numbers table')")
    click(page, "#other button[aria-label=Clear]")
    has(page, "#other input[type=file]")
    upload(page, "#other input[type=file]", tmp_path / "egg.ply")
    says(page, "#other", "egg")
    click(page, "#measure")
    says(page, "#numbers", f"{run.name} against egg.ply")
    rows = page.evaluate("[...document.querySelectorAll('#numbers tr')].map((row) => row.innerText.split('\\t'))")
    numbers = {name: float(value) for name, value in rows if value != "-"}
    mesh, options = run / "refine" / "mesh.glb", MeasureOptions(alignment="none", points=10_000)
    found = columns_of(measure_pair(mesh, tmp_path / "egg.ply", options).record())
    assert numbers["chamfer l1"] == pytest.approx(found["chamfer_l1"], rel=1e-3)
    assert numbers["f score@0.05"] == pytest.approx(found["f_score@0.05"], rel=1e-3)
    assert 0.3 < numbers["f score@0.05"] < 1


def test_a_damaged_run_and_one_that_goes_away_are_said_once(browser, site):
    url, outputs = site
    whole = finished(outputs)
    broken = shutil.copytree(whole, outputs / "broken")
    (broken / "run.json").write_text("{")
    page = browser.open(url)
    has(page, "#run input")
    choose(page, "#run", "broken")
    says(page, "#state", "run.json is damaged")
    shutil.rmtree(broken)
    says(page, "#state", "Choose a run")
    assert page.evaluate("document.querySelectorAll('.toast-body').length") == 0
    assert page.evaluate("document.querySelector('#run input').value") == ""


@pytest.mark.parametrize(
    "path",
    [
        "/runs/../../etc/passwd",
        "/runs/%2e%2e/pyproject.toml",
        "/runs/NAME/run.json",
        "/runs/NAME/..%2f..%2fsecret.html",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=OUT/NAME/run.json",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/file=https://example.org/",
    ],
)
def test_nothing_else_is_readable(site, path):
    url, outputs = site
    (outputs.parent / "secret.html").write_text("secret")
    name = finished(outputs).name
    status, body = fetch(url, path.replace("NAME", name).replace("OUT", str(outputs)))
    assert status in (400, 403, 404)
    assert b"secret" not in body
    assert fetch(url, f"/runs/{name}/report.html")[0] == 200
    assert fetch(url, "/", headers={"Host": "evil.example"})[0] == 403


def test_the_routes_of_the_service_are_those_of_the_page(browser, site, tmp_path):
    url, _outputs = site
    picture = draw_figure(tmp_path / "asked.png").read_bytes()
    until = b'--x\r\nContent-Disposition: form-data; name="until"\r\n\r\npreprocess\r\n'
    preset = b'--x\r\nContent-Disposition: form-data; name="preset"\r\n\r\ndraft\r\n'
    part = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="asked.png"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    status, body = fetch(url, "/v1/runs", until + preset + part + picture + b"\r\n--x--\r\n", form)
    assert status == 202
    run = json.loads(body)["id"]
    end = time.monotonic() + PATIENCE
    while (told := json.loads(fetch(url, f"/v1/runs/{run}")[1]))["state"] != "done":
        assert told["state"] in ("waiting", "running")
        assert time.monotonic() < end
        time.sleep(0.1)
    page = browser.open(url)
    has(page, "#run input")
    choose(page, "#run", run)
    says(page, "#state", "Done")
    status, body = fetch(url, "/v1/runs", b"{}", {"Content-Type": "application/json"})
    assert (status, json.loads(body)["title"]) == (415, "Unsupported media type")
    assert fetch(url, "/v1/runs", b"{}", {"Origin": "http://evil.example"})[0] == 403
    assert fetch(url, "/v1/runs/none")[0] == 404


def test_a_file_of_the_machine_is_no_upload(site, tmp_path):
    url, outputs = site
    before = find_runs(outputs)
    picture = {"path": str(draw_figure(tmp_path / "private.png")), "meta": {"_type": "gradio.FileData"}}
    answer = ask(url, "begin", picture, "draft", 1, 1000, None, "\n".join(QUICK))
    assert "not uploaded" in answer["output"]["error"]
    mesh = {"path": str(outputs.parent / "before.png"), "meta": {"_type": "gradio.FileData"}}
    answer = ask(url, "compare", finished(outputs).name, mesh, "none")
    assert "not uploaded" in answer["output"]["error"]
    assert [run.path for run in find_runs(outputs)] == [run.path for run in before]


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_no_other_site_acts_through_the_browser(site, origin):
    url, _outputs = site
    status, _body = fetch(url, "/gradio_api/queue/join", b"{}", {"Origin": origin})
    assert status == 403


def test_a_link_out_of_a_run_is_not_followed(site):
    url, outputs = site
    folder = finished(outputs)
    page = (folder / "report.html").read_bytes()
    (outputs.parent / "outside.html").write_text("outside")
    (folder / "report.html").unlink()
    (folder / "report.html").symlink_to(outputs.parent / "outside.html")
    assert fetch(url, f"/runs/{folder.name}/report.html")[0] == 404
    (folder / "report.html").unlink()
    (folder / "report.html").write_bytes(page)
