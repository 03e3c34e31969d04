"""The picture that a run began with, on the front of what is exported."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from kiss3d_cli.export.exporting import export
from kiss3d_cli.export.model import Model
from kiss3d_cli.export.options import Options
from kiss3d_cli.export.photograph import RunPicture, photograph
from kiss3d_cli.export.source import read_model
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.render import render_texture
from kiss3d_cli.geometry.texture.bake import bake
from kiss3d_cli.geometry.texture.charts import Atlas, unwrap
from kiss3d_cli.geometry.texture.overlay import overlay, side_for
from kiss3d_cli.geometry.texture.project import Photographs
from kiss3d_cli.geometry.texture.transfer import texels_of
from kiss3d_cli.image.framing import frame_foreground
from kiss3d_cli.image.png import write_png
from shapes import ball, together

SIDE, FRAMED = 500, 96
CAMERA = bundle_cameras()[[0]]


def striped(size: int) -> np.ndarray:
    """Fine rings about a point off the middle, red on the left and green on the right: nothing is symmetric."""
    row, column = np.mgrid[:size, :size] / size
    ring = 0.5 + 0.5 * np.sin(260 * np.hypot(row - 0.45, column - 0.4))
    return (255 * np.stack([ring * (1 - column), ring * column, 0.3 + 0.7 * row], -1)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Model, RunPicture]:
    """A ball, painted as coarsely as a run of 96 pixels paints it, and its picture of 500, off the middle."""
    folder = tmp_path_factory.mktemp("run")
    mesh = ball(0.9, 40, 80)
    shown = render_texture(mesh, _plain(mesh), CAMERA, (SIDE, SIDE), antialiased=False).mask[0].numpy() > 0.5
    rgba = np.zeros((520, 560, 4), np.uint8)
    rgba[7 : 7 + SIDE, 31 : 31 + SIDE] = np.concatenate([striped(SIDE), shown[..., None] * np.uint8(255)], -1)
    Image.fromarray(rgba).save(folder / "input.png")
    extent = int(np.ptp(np.flatnonzero(shown.any(0)))) + 1
    framed = frame_foreground(rgba[..., :3], rgba[..., 3], size=FRAMED, fill=extent / SIDE)
    write_png(folder / "image_rgba.png", framed.rgba)
    (folder / "window.json").write_text(json.dumps(dict(zip(("left", "top", "side"), framed.window, strict=True))))
    coarse = cv2.resize(framed.rgba[..., :3], (FRAMED, FRAMED))
    picture = Photographs(
        CAMERA,
        torch.from_numpy(coarse)[None].float() / 255,
        torch.from_numpy(framed.mask)[None],
        torch.ones(1),
        exact=True,
    )
    atlas = unwrap(mesh, bundle_cameras(), 256)
    texture = bake(mesh.with_colors(torch.full((len(mesh.vertices), 3), 0.5)), picture, atlas, 256)
    paths = folder / "input.png", folder / "image_rgba.png", folder / "window.json"
    return Model(mesh, texture), RunPicture(*paths, 4.15)


def _plain(mesh):
    from kiss3d_cli.geometry.texture.texture import Texture

    return Texture(torch.zeros(1, 2), torch.zeros_like(mesh.faces), torch.zeros(4, 4, 3, dtype=torch.uint8))


def decibels(model: Model) -> float:
    """Of the front against the picture at its own size."""
    assert model.texture is not None
    seen = render_texture(model.mesh, model.texture, CAMERA, (SIDE, SIDE), antialiased=False)
    error = (seen.colors[0].double().numpy() - striped(SIDE) / 255)[seen.mask[0].numpy() > 0.5]
    return float(-10 * np.log10((error**2).mean()))


def test_the_front_is_as_fine_as_the_picture_and_the_back_is_as_it_was(run, tmp_path):
    model, origin = run
    assert decibels(model) < 20  # the rings are lost on 96 pixels
    made = export(dataclasses.replace(model, origin=origin), Options(to="blender", origin="center"), "ball")
    assert made.facts["front_pixels"] in range(390, 480)
    assert made.facts["texture"] == [1024, 1024]
    (tmp_path / "ball.glb").write_bytes(made.files["ball.glb"])
    fine, _ = read_model(tmp_path / "ball.glb")
    assert decibels(fine) > 32
    # around the charts are their own colours, which filtering and mipmaps mix in: the blue of the rings grows downwards
    inside, colors = (
        texels_of(fine.mesh, Atlas(fine.texture.uv, fine.texture.corners, 1), 1024).inside,
        fine.texture.image,
    )
    near = ndimage.binary_dilation(inside, np.ones((3, 3)), iterations=4) & ~inside
    row, column = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    assert np.abs(colors.numpy().astype(int) - colors.numpy()[row, column])[near].mean() < 20
    back = bundle_cameras()[[2]]
    before, after = (render_texture(m.mesh, m.texture, back, (96, 96)).colors for m in (model, fine))
    assert float((before - after).abs().mean()) < 0.005


def test_fewer_faces_show_the_picture_too(run, tmp_path):
    model, origin = run
    asked = Options(to="blender", origin="center", faces=1200, texture=1024)
    made = export(dataclasses.replace(model, origin=origin), asked, "ball")
    (tmp_path / "ball.glb").write_bytes(made.files["ball.glb"])
    low, _ = read_model(tmp_path / "ball.glb")
    assert len(low.mesh.faces) <= 1200
    assert decibels(low) > 28


def test_a_texture_that_is_asked_for_stays_that_small(run):
    model, origin = run
    made = export(dataclasses.replace(model, origin=origin), Options(to="godot", texture=128), "ball")
    assert made.facts["texture"] == [128, 128]
    assert made.facts["front_pixels"] == 128


def test_a_mesh_that_is_not_what_the_picture_shows_keeps_its_paint(run, tmp_path):
    model, origin = run
    wide = model.with_mesh(model.mesh.with_vertices(model.mesh.vertices * torch.tensor([1.0, 0.6, 1])))
    found, note = photograph(wide.mesh, wide.texture, origin, 1024)
    assert found is None
    assert "not where the picture shows it" in note
    texture = dataclasses.replace(model.texture, image=255 - model.texture.image)
    found, note = photograph(model.mesh, texture, origin, 1024)
    assert found is None
    assert "painted otherwise" in note


@pytest.mark.parametrize(
    "text", ["", "{}", '{"left": 0, "top": 0, "side": 0}', '{"left": 0, "top": 0, "side": 1e300}', "[1, 2, 3]"]
)
def test_a_window_that_is_none_changes_nothing(run, tmp_path, text):
    model, origin = run
    (tmp_path / "window.json").write_text(text, encoding="utf-8")
    assert photograph(
        model.mesh, model.texture, dataclasses.replace(origin, window=tmp_path / "window.json"), 1024
    ) == (
        None,
        "",
    )


def test_what_stands_behind_keeps_its_own_colour():
    """A small ball before a large one: of where the large one is hidden, the photograph of both says nothing."""
    near, far = ball(0.2, 16, 32), ball(0.7, 24, 48)
    both = together(near.with_vertices(near.vertices + torch.tensor([0.0, 0, 1.2])), far)
    atlas = unwrap(both, bundle_cameras(), 512)
    grey = bake(both.with_colors(torch.full((len(both.vertices), 3), 0.5)), _nothing(), atlas, 512)
    red = torch.tensor([1.0, 0, 0]).expand(1, 256, 256, 3)
    everywhere = torch.ones(1, 256, 256, dtype=torch.bool)
    taken = Photographs(CAMERA, red, everywhere, torch.ones(1), exact=True, carried_on=True)
    painted = overlay(both, grey, taken, 512)
    front = render_texture(both, painted, CAMERA, (256, 256), antialiased=False)
    assert (
        float((front.colors[0] - torch.tensor([1.0, 0, 0]))[front.mask[0] > 0.5].abs().mean()) < 0.03
    )  # all but the rim, which is grazed
    alone = both.with_vertices(
        both.vertices - torch.tensor([0.0, 0, 5]) * (torch.arange(len(both.vertices)) < len(near.vertices))[:, None]
    )
    behind = render_texture(alone, painted, CAMERA, (256, 256), antialiased=False).colors[0]
    assert behind[150, 128].tolist() == pytest.approx([0.5, 0.5, 0.5], abs=0.01)
    assert side_for(both, grey, taken) > 256


def _nothing() -> Photographs:
    return Photographs(
        CAMERA, torch.zeros(1, 64, 64, 3), torch.ones(1, 64, 64, dtype=torch.bool), torch.zeros(1), exact=True
    )
