"""A real service, asked by a real client."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import trimesh

from conftest import call
from pictures import QUICK
from serve_process import Server

pytestmark = pytest.mark.timeout(1800)
UNTIL = {"until": "preprocess"}
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("service") / "runs").start()
    yield running
    running.stop()


def send(server: Server, picture, headers=None, **fields) -> httpx.Response:
    files = {"picture": ("fox.png", picture.read_bytes())}
    return server.client.post("/v1/runs", data={**UNTIL, **fields}, files=files, headers=headers)


def test_a_run_is_accepted_followed_and_fetched(server, picture):
    accepted = send(server, picture, name="fox")
    assert accepted.status_code == 202, accepted.text
    run = accepted.json()["id"]
    assert run.startswith("fox-")
    assert accepted.headers["location"] == f"/v1/runs/{run}"
    with server.client.stream("GET", f"/v1/runs/{run}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = list(stream.iter_lines())
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert events[-1] == "end"
    assert set(events[:-1]) <= {"progress"}
    assert told[-1]["state"] == "done"
    assert {stage["stage"]: stage["status"] for stage in told[-1]["stages"]}["preprocess"] == "done"
    assert told[-1] == server.client.get(f"/v1/runs/{run}").json()
    assert told[-1]["files"] == ["report.html"]
    report = server.client.get(f"/v1/runs/{run}/files/report.html")
    assert report.content == (server.out / run / "report.html").read_bytes()
    assert report.headers["content-security-policy"] == "sandbox allow-scripts"
    for other in ("run.json", "../.service/runs/x.json", "%2e%2e/%2e%2e/x", "preprocess/manifest.json", "nothing"):
        answer = server.client.get(f"/v1/runs/{run}/files/{other}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == PROBLEM
    assert call("resume", server.out / run, "--until", "preprocess").code == 0, "a run folder like any other"


def test_a_request_that_is_sent_twice_makes_one_run(server, picture):
    key = {"Idempotency-Key": "a key"}
    first, again = send(server, picture, key), send(server, picture, key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    other = send(server, picture, key, seed="5")
    assert other.status_code == 422
    assert other.json()["place"] == "Idempotency-Key"
    assert send(server, picture, {"Idempotency-Key": "another"}).json()["id"] != first.json()["id"]
    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(lambda _: send(server, picture, {"Idempotency-Key": "at once"}), range(4)))
    assert len({answer.json()["id"] for answer in at_once}) == 1
    assert sorted(answer.status_code for answer in at_once) == [200, 200, 200, 202]


@pytest.mark.parametrize(
    ("fields", "place", "detail"),
    [
        ({"seed": "x"}, "seed", "'x' is not a whole number"),
        ({"strength": "much"}, "strength", "'much' is not a number"),
        ({"preset": "best"}, "preset", "there is no preset 'best'"),
        ({"until": "soup"}, "until", "soup"),
        ({"settings": "{"}, "settings", "they are no JSON object of settings"),
        ({"settings": '{"refine.stepps": 3}'}, None, "refine.stepps"),
        ({"settings": '{"models.root": "/etc"}'}, "models", "this is a setting of the machine, not of a run"),
        ({"settings": "device.name=cuda"}, "device", "this is a setting of the machine, not of a run"),
        ({"text": "a fox"}, "text", "both"),
        ({"mask": "here"}, "mask", "it is a file, and a text was sent"),
        ({"soup": "x"}, "soup", "there is no such field"),
    ],
)
def test_a_bad_field_is_told_in_the_words_of_the_command_line(server, picture, fields, place, detail):
    before = sorted(server.out.iterdir())
    answer = send(server, picture, **fields)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert problem["exit_code"] == 2
    assert detail in problem["detail"] + str(problem.get("place"))
    assert place is None or problem["place"] == place
    told = problem["detail"] + str(problem.get("place"))
    assert not re.search(r"--|PICTURE", told), "options are of the command line"
    assert str(server.out) not in answer.text
    assert sorted(server.out.iterdir()) == before, "nothing was made"


def test_other_bad_bodies(server, picture):
    post, picture_bytes = server.client.post, picture.read_bytes()
    twice = [("picture", ("a.png", picture_bytes)), ("picture", ("b.png", picture_bytes))]
    answers = [
        (post("/v1/runs", json={"picture": 3}), 415),
        (post("/v1/runs", content=b"x", headers={"content-type": "multipart/form-data"}), 400),
        (post("/v1/runs", files={"picture": ("a.png", b"no picture")}), 422),
        (post("/v1/runs", files={"text": ("a.txt", b"words")}), 422),
        (post("/v1/runs", files={"run.json": ("a.txt", b"words")}), 422),
        (post("/v1/runs", files=twice), 422),
        (post("/v1/runs", data={"seed": "1"}), 415),
        (post("/v1/runs", files={"mesh": ("../../a.obj", b"v 1 2")}), 422),
        (send(server, picture, {"Idempotency-Key": "x" * 300}), 422),
        (server.client.get("/v1/runs?state=odd"), 422),
        (server.client.get("/v1/runs?limit=x"), 422),
        (server.client.get("/v1/runs/none"), 404),
        (server.client.delete("/v1/runs/none"), 404),
        (post("/v1/runs/none/resume"), 404),
        (server.client.get("/v1/runs/none/events"), 404),
        (server.client.put("/v1/runs"), 405),
        (server.client.get("/elsewhere"), 404),
        (server.client.get("/v1/health", headers={"host": "evil.example"}), 403),
        (server.client.get("/v1/health", headers={"origin": "https://evil.example"}), 403),
        (server.client.get("/v1/health", headers={"origin": "http://[evil"}), 403),
        (post("/send", content=b"{"), 422),
        (post("/send", json={"image": "@@"}), 422),
        (post("/generate", json={"image": base64.b64encode(b"text").decode()}), 422),
        (post("/generate", json={"image": base64.b64encode(picture_bytes).decode(), "type": "fbx"}), 422),
        (server.client.get("/status/none"), 404),
    ]
    for number, (answer, status) in enumerate(answers):
        assert answer.status_code == status, (number, answer.text)
        assert answer.headers["content-type"] == PROBLEM, number
        assert answer.json()["status"] == status
        assert "Traceback" not in answer.text
    assert server.client.put("/v1/runs").headers["allow"] == "GET, POST"
    assert server.client.put("/v1/runs/none").headers["allow"] == "DELETE, GET"


def test_a_waiting_run_is_cancelled_and_taken_up_again(server, picture):
    runs = [send(server, picture, seed=str(seed)).json()["id"] for seed in (1, 2, 3)]
    cancelled = server.client.delete(f"/v1/runs/{runs[-1]}")
    assert cancelled.status_code == 202
    state = server.ended(runs[-1])["state"]
    assert state in ("cancelled", "done")
    again = server.client.post(f"/v1/runs/{runs[-1]}/resume")
    assert again.status_code == 202
    assert {server.ended(run)["state"] for run in runs} == {"done"}


def test_a_worker_that_dies_costs_no_run(server, picture):
    server.ended(send(server, picture).json()["id"])  # so that there is a worker
    run = send(server, picture, seed="9").json()["id"]
    while server.client.get(f"/v1/runs/{run}").json()["state"] == "waiting":
        time.sleep(0.02)
    for worker in server.workers():
        worker.kill()
    assert server.ended(run)["state"] == "done"


def test_scripts_for_hunyuan_get_a_mesh(server, picture):
    image = base64.b64encode(picture.read_bytes()).decode()
    quick = "\n".join(QUICK)
    full = server.client.post(
        "/v1/runs", data={"settings": quick}, files={"picture": ("fox.png", picture.read_bytes())}
    )
    assert full.status_code == 202
    files = server.ended(full.json()["id"])["files"]
    assert {"report.html", "refine/mesh.glb", "refine/mesh.obj", "refine/mesh.ply"} <= set(files)
    sent = server.client.post(
        "/send", json={"image": image, "face_count": 1000, "texture": False, "octree_resolution": 128, "seed": 0}
    )
    assert set(sent.json()) == {"uid"}
    while (answer := server.client.get(f"/status/{sent.json()['uid']}").json())["status"] != "completed":
        assert answer["status"] in ("processing", "texturing"), answer
        time.sleep(0.1)
    mesh = trimesh.load(io.BytesIO(base64.b64decode(answer["model_base64"])), file_type="glb", force="mesh")
    assert 100 < len(mesh.faces) <= 1000
    config = json.loads((server.out / sent.json()["uid"] / "run.json").read_text(encoding="utf-8"))["config"]
    assert config["seed"] == 0
    assert config["refine"]["texture"] is False
    direct = server.client.post("/generate", files={"image": ("fox.png", picture.read_bytes())}, data={"type": "ply"})
    assert direct.status_code == 200
    assert direct.content.startswith(b"ply")


def test_what_prometheus_reads(server, picture):
    server.ended(send(server, picture).json()["id"])
    from prometheus_client.parser import text_string_to_metric_families

    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["kiss3d_runs", "done"] >= 1
    assert found["kiss3d_runs", "failed"] == 0
    assert found["kiss3d_stage_seconds_total", "preprocess"] > 0
    assert found["kiss3d_stage_runs_total", "preprocess"] >= 1


def test_the_description_holds_every_route(server):
    described = server.client.get("/openapi.json").json()
    assert {"/v1/runs", "/v1/runs/{run}", "/v1/runs/{run}/events", "/generate", "/send"} <= set(described["paths"])
    form = described["paths"]["/v1/runs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"picture", "mask", "text", "mesh", "preset", "settings"} <= set(form["properties"])
    assert PROBLEM in described["paths"]["/v1/runs"]["post"]["responses"]["422"]["content"]


def test_killed_and_started_again_it_goes_on(tmp_path, picture):
    server = Server(tmp_path / "runs", "--log", "json").start()
    runs = [send(server, picture, seed=str(seed)).json()["id"] for seed in range(4)]
    workers = server.workers()
    server.kill()
    server.start()
    try:
        assert {server.ended(run)["state"] for run in runs} == {"done"}
        assert not any(worker.is_running() for worker in workers), "the workers went with their service"
        assert len(list(server.out.glob("[!.]*/run.json"))) == 4
        attempts = [server.client.get(f"/v1/runs/{run}").json()["attempts"] for run in runs]
        assert attempts == [1, 1, 1, 1], "that the service was killed is no fault of a run"
        second = call("serve", "--out", server.out, "--port", "1")
        assert second.code == 6, "one service in a folder"
    finally:
        assert server.stop() == 0
    lines = server.out.with_suffix(".log").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert {"time", "level", "event"} <= set.intersection(*(set(entry) for entry in told))
    for run in runs:
        states = [entry["state"] for entry in told if entry["event"] == "run" and entry["run"] == run]
        assert states[0] == "waiting"
        assert states[-2:] == ["running", "done"]
        stages = [
            (entry["stage"], entry["status"]) for entry in told if entry["event"] == "stage" and entry["run"] == run
        ]
        assert ("preprocess", "done") in stages or ("preprocess", "skipped") in stages
    asked = [entry for entry in told if entry["event"] == "request" and entry["method"] == "POST"]
    assert [(entry["path"], entry["status"]) for entry in asked] == [("/v1/runs", 202)] * 4
    assert sum(entry["event"] == "worker" and entry["state"] == "started" for entry in told) == 2


def test_without_a_token_nobody_is_served(tmp_path, picture):
    tokens = tmp_path / "tokens"
    tokens.write_text("# mine\n0123456789abcdefghij\n", encoding="utf-8")
    server = Server(tmp_path / "runs", "--token-file", str(tokens), "--rate", "3", "--largest-request", "1").start()
    try:
        get, post = server.client.get, server.client.post
        assert get("/v1/health").status_code == get("/health").status_code == 200
        for headers in ({}, {"authorization": "Bearer 0123"}, {"authorization": "Basic 0123456789abcdefghij"}):
            answer = get("/v1/runs", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert get("/openapi.json", headers=headers).status_code == 401
            assert send(server, picture, headers).status_code == 401
        own = {"authorization": "bearer 0123456789abcdefghij"}
        assert get("/v1/runs", headers=own).json() == {"runs": [], "total": 0}
        large = post("/v1/runs", content=b"x" * 2_000_000, headers=own)
        assert large.status_code == 413
        chunks = post(
            "/v1/runs", content=iter([b"x" * 300_000] * 9), headers={**own, "content-type": "application/json"}
        )
        assert chunks.status_code in (413, 415)
        codes = [post("/send", json={}, headers=own).status_code for _ in range(4)]
        assert codes[-1] == 429
        assert set(codes) <= {422, 429}
    finally:
        server.stop()


def test_what_a_service_does_not_start_with(tmp_path):
    short = tmp_path / "short"
    short.write_text("abc\n", encoding="utf-8")
    empty = tmp_path / "empty"
    empty.write_text("\n# nothing\n", encoding="utf-8")
    out = ("--out", tmp_path / "runs")
    for options, words in (
        (("--host", "0.0.0.0"), "only with a token"),
        (("--host", ""), "no host was given"),
        (("--token-file", short), "at least 16 letters"),
        (("--token-file", empty), "no token in it"),
        (("--token-file", tmp_path / "none"), "the tokens can't be read"),
        (("--log", "xml"), "there is no log 'xml'"),
        (("--preset", "best"), "there is no preset 'best'"),
        (("--set", "refine.stepps=3"), "refine.stepps"),
    ):
        answer = call("serve", *out, *options)
        assert answer.code == 2, answer.err
        assert words in answer.err
    assert not (tmp_path / "runs").exists()
