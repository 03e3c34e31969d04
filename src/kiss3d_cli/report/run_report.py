"""The report of one run: a pure function from the run folder to one page that opens without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from kiss3d_cli.core.errors import Kiss3dError
from kiss3d_cli.core.files import write_durably
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.image.views import VIEW_NAMES
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.inputs import SIDES
from kiss3d_cli.pipeline.run_folder import LOG, RunFolder
from kiss3d_cli.report.chart import Bar, bars
from kiss3d_cli.report.drawings import draw_colors, draw_normals, draw_vertex_colors
from kiss3d_cli.report.error_colors import error_colors, ramp_css
from kiss3d_cli.report.page import LARGE_PICTURE, command, figure, page, section, table, text
from kiss3d_cli.report.pictures import file_uri, pixels_uri
from kiss3d_cli.report.run_view import STATES, RunView, read_run
from kiss3d_cli.report.shape import Errors, Shape, measure_errors, read_shape
from kiss3d_cli.report.viewer import pack

REPORT = "report.html"
_DRAWING = 320
_GIB = 2**30
_MODES = {
    "texture": "Textured",
    "colors": "Coloured",
    "shaded": "Shaded",
    "wireframe": "Wireframe",
    "normals": "Normals",
    "error": "Error",
}
T = TypeVar("T")


def is_current(folder: RunFolder) -> bool:
    """Whether a run has a report that was made after all that its log tells."""
    report, log = folder.path / REPORT, folder.path / LOG
    return report.is_file() and not (log.is_file() and log.stat().st_mtime_ns > report.stat().st_mtime_ns)


def write_report(folder: RunFolder) -> Path:
    """Write report.html into the run folder, as a whole.

    Raises:
        BadInput, DamagedRun: this is no run folder, or its run.json can't be used.
        OSError: it can't be written.
    """
    path = folder.path / REPORT
    write_durably(path, run_report(folder).encode())
    return path


def run_report(folder: RunFolder) -> str:
    """The page. What can't be read or drawn is said in its place; the rest is there all the same.

    Raises:
        BadInput, DamagedRun: this is no run folder, or its run.json can't be used.
    """
    run = read_run(folder)
    notes: list[str] = []
    shape = _or_note(lambda: read_shape(run), "the mesh", notes)
    errors = None
    if shape is not None and shape.title == "the final mesh":
        errors = _or_note(lambda: measure_errors(run, shape.mesh), "the error heat map", notes)
    # decoding and encoding let go of the interpreter; torch draws in this thread, in another it would start its own
    told: list[list[str]] = [[], []]
    with ThreadPoolExecutor(1) as pool:
        result, work = pool.submit(_result, run, shape, errors, told[0]), pool.submit(_work, run, told[1])
        drawings = _drawings(run, shape, errors)
        parts = [_header(run), _failures(run), result.result(), drawings, _measured(run), work.result()]
    notes += [note for several in told for note in several]
    parts += [_times(run), _stages(run), _again(run), _settings(run)]
    parts.insert(2, _notes(run, notes))
    body = "<main>" + "\n".join(part for part in parts if part) + "</main>" + LARGE_PICTURE
    return page(f"{run.record.name} - kiss3d", body, [] if shape is None else ["viewer.js"])


def _or_note(make: Callable[[], T], what: str, notes: list[str]) -> T | None:
    try:
        return make()
    except (Kiss3dError, OSError) as error:
        notes.append(f"{what} can't be shown: {error.cause if isinstance(error, Kiss3dError) else error.strerror}")
        return None


def _header(run: RunView) -> str:
    record = run.record
    facts = [
        f"preset {record.preset} ({record.preset_reason})",
        f"seed {record.config['seed']}",
        f"on {record.device.get('model', 'an unknown device')}",
        f"started {record.created}",
        f"{run.seconds:.1f} s of work",
        f"kiss3d {record.kiss3d}",
    ]
    return (
        f'<header><h1>{text(record.name)}</h1><span class="badge {run.state}">{STATES[run.state]}</span>'
        f'<span class="meta">{text(" · ".join(facts))}</span></header>'
    )


def _failures(run: RunView) -> str:
    parts = []
    for failure in run.failures:
        verb = "was interrupted" if failure.interrupted else "failed"
        body = f"<p><b>{text(failure.error)}</b></p>"
        if failure.hint:
            body += f"<p>{text(failure.hint)}</p>"
        body += "<p>Everything before it is kept. To go on, in this folder:</p>"
        body += command(f"resume-{failure.stage}", "kiss3d resume .")
        if failure.traceback and not failure.interrupted:
            body += f"<details><summary>Traceback</summary><pre>{text(failure.traceback)}</pre></details>"
        parts.append(section(f"{failure.stage.capitalize()} {verb}", body, "warn" if failure.interrupted else "bad"))
    return "\n".join(parts)


def _notes(run: RunView, notes: list[str]) -> str:
    """Warnings of the stages, what is damaged or stale, and what this page could not show."""
    found = [f"{stage.status.stage}: {warning}" for stage in run.stages for warning in stage.status.warnings]
    found += [
        f"{stage.status.stage} is {stage.status.status}: {stage.status.reason}"
        for stage in run.stages
        if stage.status.status in ("damaged", "stale")
    ]
    items = "".join(f"<li>{text(note)}</li>" for note in [*found, *notes])
    return section("Warnings", f"<ul>{items}</ul>" if items else "", "warn")


def _result(run: RunView, shape: Shape | None, errors: Errors | None, notes: list[str]) -> str:
    given = run.input("picture")
    left = "" if shape is None else _viewer(shape, errors)
    right = '<div class="two">'
    if given is not None:
        right += figure(_or_note(lambda: file_uri(given, 512), "the picture", notes), "The picture", "fit")
    right += figure(_thumbnail(run, "preprocess/image_rgba.png", 384, notes), "Cut out", "cutout fit") + "</div>"
    right += _other_sides(run, notes)
    words = run.json("caption/caption.json").get("caption")
    if isinstance(words, str):
        right += f"<blockquote>{text(words)}</blockquote>"
    right += _shape_facts(run, shape)
    return section("Result", f'<div class="split"><div>{left}</div><div>{right}</div></div>' if left else right)


def _other_sides(run: RunView, notes: list[str]) -> str:
    """The pictures of other sides, as they were given, and how they were brought to one scale with the front."""
    pictures = {side: path for side in SIDES if (path := run.input(side)) is not None}
    if not pictures:
        return ""
    tiles = "".join(
        figure(_or_note(partial(file_uri, path, 320), f"the {side} picture", notes), side.capitalize(), "fit")
        for side, path in pictures.items()
    )
    body = f'<h3>Pictures of other sides</h3><div class="three">{tiles}</div>'
    matched = "".join(
        figure(_thumbnail(run, f"sides/{side}_rgba.png", 320, notes), side.capitalize(), "cutout fit")
        for side in VIEW_NAMES
    )
    return body + (f'<h3>Brought to one scale</h3><div class="four">{matched}</div>' if matched else "")


def _viewer(shape: Shape, errors: Errors | None) -> str:
    packed = pack(shape, None if errors is None else error_colors(errors.distance, errors.scale))
    modes = "".join(
        f'<button type="button" data-mode="{mode}" aria-pressed="false">{_MODES[mode]}</button>'
        for mode in packed.modes
    )
    sides = "".join(
        f'<button type="button" data-side="{90 * number}">{name.capitalize()}</button>'
        for number, name in enumerate(VIEW_NAMES)
    )
    texture = "" if packed.texture is None else f'<img id="mesh-texture" hidden alt="" src="{packed.texture}">'
    return (
        '<div class="viewer"><canvas id="viewer-canvas" tabindex="0" role="img" aria-label="The mesh; drag or use the '
        'arrow keys to turn it, plus and minus to zoom, 0 to start over"></canvas>'
        '<p id="viewer-message" hidden></p></div>'
        f'<div class="tools">{modes}<span></span>{sides}</div>'
        + ("" if errors is None else f'<div id="viewer-legend" hidden>{_legend(errors)}</div>')
        + texture
        + f'<script type="application/json" id="mesh-layout">{packed.layout}</script>'
        f'<script type="text/plain" id="mesh-data">{packed.data}</script>'
    )


def _legend(errors: Errors) -> str:
    return (
        f'<div class="legend"><div class="ramp" style="background:{ramp_css()}"></div><div class="ends"><span>0</span>'
        f"<span>{errors.scale:g} and more</span></div>Distance to the ground truth, in the {text(errors.unit)}</div>"
    )


def _check_rows(run: RunView) -> list[list[str]]:
    """The mesh against its own picture."""
    manifest = run.stage("check").manifest
    found = None if manifest is None else manifest.facts.get("check")
    if not isinstance(found, dict):
        return []
    told = {
        "mask IoU of the front": ("mask_iou", "{:.3f}"),
        "colours of the front": ("color_psnr", "{:.1f} dB"),
        "thin parts kept": ("thin_kept", "{:.0%}"),
        "pieces in the picture": ("mask_pieces", "{:,}"),
        "self-intersections": ("self_intersections", "{:,}"),
        "ragged edges per 1,000": ("ragged_edges", "{:.2f}"),
    }
    values = ((name, found.get(key), form) for name, (key, form) in told.items())
    rows = [[name, form.format(value)] for name, value, form in values if isinstance(value, int | float)]
    lost = found.get("lost_parts")
    return [*rows, ["missing parts", text(", ".join(map(str, lost)))]] if isinstance(lost, list) and lost else rows


def _shape_facts(run: RunView, shape: Shape | None) -> str:
    if shape is None:
        return '<p class="soft">There is no mesh yet.</p>'
    report = {}
    refine = run.stage("refine").manifest
    if refine is not None and isinstance(refine.facts.get("mesh"), dict):
        report = refine.facts["mesh"]
    rows = [["shown", text(shape.title)], ["faces", f"{shape.faces:,}"]]
    if len(shape.mesh.faces) < shape.faces:
        rows[-1][1] += f" ({len(shape.mesh.faces):,} on this page)"
    for name in ("vertices", "watertight", "components", "genus"):
        value = report.get(name)
        if value is not None:
            rows.append([name, _told(value)])
    rows += _check_rows(run)
    usual, exported = ("mesh.glb", "mesh.obj", "mesh.ply"), run.exported
    for stage, title, all_names in (
        ("refine", "files", usual),
        ("place", "where the given mesh lay", usual),
        ("export", "exported", exported),
    ):
        names = [text(name) for name in all_names if run.artifact(f"{stage}/{name}") is not None]
        if names:
            folder = run.folder.folder(stage).name
            rows.append([title, ", ".join(f'<a href="{folder}/{name}">{name}</a>' for name in names)])
    return "<h3>Mesh</h3>" + table((), rows)


def _told(value: Any) -> str:
    """A property of the mesh as its record has it, which may hold anything."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else text(value)


def _drawings(run: RunView, shape: Shape | None, errors: Errors | None) -> str:
    if shape is None:
        return ""
    cameras = bundle_cameras(run.record.config["camera.radius"])
    kinds = {"Colours": draw_colors(shape, cameras, _DRAWING), "Normals": draw_normals(shape.mesh, cameras, _DRAWING)}
    if errors is not None:
        colors = error_colors(errors.distance, errors.scale)
        kinds["Error"] = draw_vertex_colors(shape.mesh, colors, cameras, _DRAWING)
    body = ""
    for title, drawn in kinds.items():
        if drawn is None:
            continue
        tiles = "".join(
            figure(pixels_uri(pixels, _DRAWING), name.capitalize())
            for name, pixels in zip(VIEW_NAMES, drawn, strict=True)
        )
        body += f'<h3>{title}</h3><div class="four">{tiles}</div>'
        if title == "Error" and errors is not None:
            body += _legend(errors)
    return section("From four sides", body)


def _measured(run: RunView) -> str:
    """The numbers of the eval stage, with what they need to be compared with others."""
    found = run.json("eval/metrics.json")
    metrics, protocol = found.get("metrics"), found.get("protocol")
    if not isinstance(metrics, dict) or not isinstance(protocol, dict):
        return ""
    tiles = [(name.replace("_", " "), value) for name, value in metrics.items()]
    scores = metrics.get("f_scores")
    listed = [score for score in scores if isinstance(score, dict)] if isinstance(scores, list) else []
    tiles += [(f"F-score at {score.get('threshold')}", score.get("f_score")) for score in listed]
    numbers = "".join(
        f"<div><b>{_short(value)}</b>{text(name)}</div>" for name, value in tiles if isinstance(value, int | float)
    )
    unit = found.get("normalisation")
    words = f"Protocol {protocol.get('id')} {protocol.get('version')}"
    words += f", {found.get('points')} points, seed {found.get('seed')}"
    if isinstance(unit, dict):
        words += f"; lengths in the {unit.get('unit')}"
    return section("Against the ground truth", f'<div class="tiles">{numbers}</div><p class="soft">{text(words)}.</p>')


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.2e}"


def _work(run: RunView, notes: list[str]) -> str:
    """What lies between the picture and the mesh."""
    views = "".join(
        figure(_thumbnail(run, f"multiview/{name}.png", 320, notes), name.capitalize()) for name in VIEW_NAMES
    )
    body = f'<h3>Four views</h3><div class="four">{views}</div>' if views else ""
    before = figure(_thumbnail(run, "reference/reference_bundle.png", 1280, notes), "Reference bundle")
    after = figure(_thumbnail(run, "bundle/bundle.png", 1280, notes), "Final bundle")
    if before or after:
        body += f'<h3>Bundle, before and after</h3><div class="pair">{before}{after}</div>'
    return section("On the way", body)


def _thumbnail(run: RunView, reference: str, side: int, notes: list[str]) -> str | None:
    path = run.artifact(reference)
    return None if path is None else _or_note(lambda: file_uri(path, side), reference, notes)


def _times(run: RunView) -> str:
    made = [(stage.status.stage, stage.manifest) for stage in run.stages if stage.manifest is not None]
    if not made:
        return ""
    time = bars("Seconds per stage", [Bar(name, f"{m.seconds:.1f} s", (m.seconds,)) for name, m in made])
    rows = []
    for name, manifest in made:
        ram, video = manifest.peak_rss_bytes / _GIB, manifest.peak_vram_bytes
        label = f"{ram:.2f} GiB" + ("" if video is None else f", {video / _GIB:.2f} GiB video")
        rows.append(Bar(name, label, (ram,) if video is None else (ram, video / _GIB)))
    memory = bars("Peak memory per stage, GiB", rows)
    kinds = "Peak memory" + (" (blue: RAM, orange: video)" if any(len(row.values) > 1 for row in rows) else "")
    return section(
        "Time and memory",
        f'<div class="pair"><div><h3>Time</h3>{time}</div><div><h3>{kinds}</h3>{memory}</div></div>',
    )


def _stages(run: RunView) -> str:
    rows = []
    for stage in run.stages:
        status, manifest = stage.status, stage.manifest
        models = ", ".join(f"{name} ({identity})" for name, identity in (manifest.models if manifest else {}).items())
        rows.append(
            [
                text(status.stage),
                text(status.method),
                f'<span class="{text(status.status)}">{text(status.status)}</span>',
                "" if manifest is None else f'<span class="number">{manifest.seconds:.1f} s</span>',
                text(models),
                text(status.reason),
            ]
        )
    if not any(row[4] for row in rows):
        rows = [[*row[:4], row[5]] for row in rows]
        return section("Stages", table(("stage", "method", "status", "time", ""), rows))
    return section("Stages", table(("stage", "method", "status", "time", "models", ""), rows))


def _again(run: RunView) -> str:
    body = "<p>The same run once more, typed in this folder:</p>" + command("again", run.again)
    body += "<p>Finish it, or change a setting and do only what depends on that:</p>"
    body += command("resume", "kiss3d resume . --set refine.target_faces=20000")
    typed = "".join(f"<li><code>{text(line)}</code></li>" for line in run.record.commands if line)
    if typed:
        body += f"<h3>What was typed</h3><ul>{typed}</ul>"
    return section("Run it again", body)


def _settings(run: RunView) -> str:
    changed = [
        [f"<code>{text(key)}</code>", text(_plain(now)), text(_plain(before))]
        for key, (before, now) in run.changed.items()
    ]
    body = table(("setting", "value", f"in preset {run.record.preset}"), changed)
    if not changed:
        body = f"<p>As in preset {text(run.record.preset)}.</p>"
    every = [
        [f"<code>{text(setting.key)}</code>", text(_plain(run.record.config[setting.key])), text(setting.help)]
        for setting in configuration.settings().values()
    ]
    body += f"<details><summary>All settings</summary>{table(('setting', 'value', ''), every)}</details>"
    versions = [[text(name), text(version)] for name, version in run.record.libraries.items()]
    body += f"<details><summary>Library versions</summary>{table(('library', 'version'), versions)}</details>"
    return section("Settings", body)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
