"""The prism as glTF, 3MF and COLLADA, in every way that these are written."""

# ruff: noqa: E501  (rows of a table, each with its whole file)

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from solids import BLUE, GREEN, POLYGONS, RED, TRIANGLES, VERTICES, Gltf, linear, quarters, srgb
from text_files import Files

UV = {"red": (0.2, 0.2), "green": (0.8, 0.2), "blue": (0.2, 0.8)}  # v downwards


@dataclass
class Case:
    """Files (the mesh first) and what is to come.

    Attributes:
        color: mean colour, or None.
        refused: words of the refusal.
        matrix: from the prism to where it is; several if it is there several times.
    """

    files: Files
    color: tuple[float, ...] | None = None
    refused: str | None = None
    matrices: tuple[np.ndarray, ...] = (np.eye(4),)


def _glb(gltf: Gltf, color: Any = None, *matrices: np.ndarray) -> Case:
    return Case({"a.glb": gltf.glb()}, color, matrices=matrices or (np.eye(4),))


def _refused(gltf: Gltf, words: str) -> Case:
    return Case({"a.glb": gltf.glb()}, refused=words)


def _affine(scale: Any = (1, 1, 1), move: Any = (0, 0, 0)) -> np.ndarray:
    matrix = np.diag([*np.array(scale, float), 1.0])
    matrix[:3, 3] = move
    return matrix


def _new(**attributes: Any) -> tuple[Gltf, dict[str, Any]]:
    gltf = Gltf()
    values = {
        name: gltf.accessor(*entry[:2], **(entry[2] if len(entry) > 2 else {})) for name, entry in attributes.items()
    }
    return gltf, gltf.prism(**values)


def shapes() -> dict[str, Callable[[], Case]]:
    def unindexed() -> Case:
        gltf, primitive = _new()
        primitive["attributes"]["POSITION"] = gltf.accessor(VERTICES[TRIANGLES].reshape(-1, 3), "<f4")
        del primitive["indices"]
        return _glb(gltf)

    def byte_indices() -> Case:
        gltf, primitive = _new()
        primitive["indices"] = gltf.accessor(TRIANGLES.reshape(-1), "u1")
        return _glb(gltf)

    def strip_and_fans() -> Case:
        gltf, primitive = _new()
        around = [i for k in range(7) for i in ((k % 6) + 6, k % 6)]
        strip = dict(primitive, mode=5, indices=gltf.accessor(around, "<u2"))
        fans = [
            dict(primitive, mode=6, indices=gltf.accessor(row, "<u2")) for row in ([0, 5, 4, 3, 2, 1], range(6, 12))
        ]
        gltf.root["meshes"] = [{"primitives": [strip, *fans]}]
        return _glb(gltf)

    def strided() -> Case:
        gltf, primitive = _new()
        rows = np.concatenate([VERTICES, np.full((12, 2), 9.0)], 1).astype("<f4")
        view = gltf.view(rows.tobytes(), byteStride=20)
        gltf.root["accessors"][primitive["attributes"]["POSITION"]]["bufferView"] = view
        return _glb(gltf)

    def sparse(base: bool) -> Callable[[], Case]:
        def make() -> Case:
            gltf, primitive = _new()
            accessor = gltf.root["accessors"][primitive["attributes"]["POSITION"]]
            wrong = VERTICES.copy()
            wrong[[3, 7]] = 50
            places = [3, 7] if base else list(range(12))
            if base:
                accessor["bufferView"] = gltf.view(wrong.astype("<f4").tobytes())
            else:
                del accessor["bufferView"]
            accessor["sparse"] = {
                "count": len(places),
                "indices": {"bufferView": gltf.view(np.array(places, "<u2").tobytes()), "componentType": 5123},
                "values": {"bufferView": gltf.view(VERTICES[places].astype("<f4").tobytes())},
            }
            return _glb(gltf)

        return make

    def quantised(normalized: bool) -> Callable[[], Case]:
        def make() -> Case:
            gltf, primitive = _new()
            numbers = np.round((VERTICES - VERTICES.mean(0)) * 8).astype("<i2")
            step = 1 / 8
            if normalized:  # steps of 8191 parts of the range
                numbers = (numbers * 1023).astype("<i2")
                step = 32767 / (8 * 1023)
            rows = np.concatenate([numbers, np.zeros((12, 1), "<i2")], 1)
            accessor = gltf.root["accessors"][primitive["attributes"]["POSITION"]]
            accessor |= {"bufferView": gltf.view(rows.tobytes(), byteStride=8), "componentType": 5122,
                         "normalized": normalized}  # fmt: skip
            offset = (
                VERTICES.mean(0)
                + (np.round((VERTICES - VERTICES.mean(0)) * 8) / 8 - (VERTICES - VERTICES.mean(0)))[0] * -1
            )
            gltf.root["nodes"] = [{"mesh": 0, "scale": [step] * 3, "translation": offset.tolist()}]
            gltf.root["extensionsRequired"] = ["KHR_mesh_quantization"]
            return _glb(gltf)

        return make

    def transformed() -> Case:
        gltf, _ = _new()
        half = np.sqrt(0.5)
        matrix = _affine((2, 2, 2), (1, 2, 3))
        gltf.root["nodes"] = [
            {"children": [1], "matrix": matrix.T.reshape(-1).tolist()},
            {"children": [2], "rotation": [0, 0, half, half]},  # a quarter turn about z
            {"mesh": 0, "translation": [5, 0, 0]},
        ]
        turn = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        return _glb(gltf, None, matrix @ turn @ _affine(move=(5, 0, 0)))

    def mirrored() -> Case:
        gltf, _ = _new()
        gltf.root["nodes"] = [{"mesh": 0, "scale": [-1, 2, 1]}]
        return _glb(gltf, None, _affine((-1, 2, 1)))

    def other_scene() -> Case:
        gltf, _ = _new()
        gltf.root["nodes"] = [{"mesh": 0, "scale": [9, 9, 9]}, {"mesh": 0}, {"mesh": 0, "translation": [9, 9, 9]}]
        gltf.root |= {"scenes": [{"nodes": [0]}, {"nodes": [1]}], "scene": 1}
        return _glb(gltf)

    def hidden() -> Case:
        gltf, _ = _new()
        gltf.root["nodes"] = [
            {"mesh": 0},
            {"mesh": 0, "scale": [9, 9, 9], "extensions": {"KHR_node_visibility": {"visible": False}}},
        ]
        gltf.root["scenes"] = [{"nodes": [0, 1]}]
        return _glb(gltf)

    def skinned() -> Case:
        weights = [[0.25, 0.75, 0, 0]] * 12
        gltf, _ = _new(JOINTS_0=([[1, 0, 0, 0]] * 12, "u1"), WEIGHTS_0=(weights, "<f4"))
        inverse = np.stack([_affine(move=(0, -1, 0)).T, np.eye(4)]).reshape(2, 16)
        gltf.root["skins"] = [{"joints": [2, 3], "inverseBindMatrices": gltf.accessor(inverse, "<f4")}]
        gltf.root["nodes"] = [
            {"children": [1, 2, 3], "translation": [10, 0, 0]},
            {"mesh": 0, "skin": 0, "translation": [99, 99, 99]},  # which a skin does not heed
            {"translation": [0, 1, 4]},
            {"scale": [2, 2, 2]},
        ]
        first = _affine(move=(10, 0, 4))
        second = _affine((2, 2, 2), (10, 0, 0))
        return _glb(gltf, None, 0.75 * first + 0.25 * second)

    def morphed(on_node: bool) -> Callable[[], Case]:
        def make() -> Case:
            gltf, primitive = _new()
            primitive["targets"] = [
                {"POSITION": gltf.accessor(VERTICES, "<f4")},
                {"POSITION": gltf.accessor(VERTICES, "<f4")},
            ]
            gltf.root["meshes"][0]["weights"] = [9.0, 9.0] if on_node else [0.5, 0.5]
            if on_node:
                gltf.root["nodes"] = [{"mesh": 0, "weights": [0.0, 1.0]}]
            return _glb(gltf, None, _affine((2, 2, 2)))

        return make

    def instanced() -> Case:
        gltf, _ = _new()
        moves, half = [[0, 0, 0], [10, 0, 0]], np.sqrt(0.5)
        attributes = {
            "TRANSLATION": gltf.accessor(moves, "<f4"),
            "ROTATION": gltf.accessor([[0, 0, 0, 1], [0, 0, half, half]], "<f4"),
            "SCALE": gltf.accessor([[1, 1, 1], [2, 2, 2]], "<f4"),
        }
        gltf.root["nodes"] = [{"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}}]
        gltf.root["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
        turn = np.array([[0.0, -2, 0, 10], [2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
        return _glb(gltf, None, np.eye(4), turn)

    def percent() -> Case:
        gltf, _ = _new()
        return Case({"a.gltf": gltf.document("my%20buffer.bin"), "my buffer.bin": bytes(gltf.binary)})

    def data_uri() -> Case:
        gltf, _ = _new()
        uri = "data:application/octet-stream;base64," + base64.b64encode(bytes(gltf.binary)).decode()
        return Case({"a.gltf": gltf.document(uri)})

    def draco() -> Case:
        import DracoPy

        gltf, primitive = _new()
        packed = DracoPy.encode(
            VERTICES.astype("f4"), TRIANGLES.astype("u4"), preserve_order=True, quantization_bits=30
        )
        extension = {"bufferView": gltf.view(packed), "attributes": {"POSITION": 0}}
        primitive["extensions"] = {"KHR_draco_mesh_compression": extension}
        for name in (primitive["indices"], primitive["attributes"]["POSITION"]):
            del gltf.root["accessors"][name]["bufferView"]
        gltf.root["extensionsRequired"] = ["KHR_draco_mesh_compression"]
        return _glb(gltf)

    return {
        "plain": lambda: _glb(_new()[0]), "unindexed": unindexed, "byte indices": byte_indices,
        "strip and fans": strip_and_fans, "strided": strided, "sparse": sparse(True), "sparse alone": sparse(False),
        "quantised": quantised(False), "quantised, normalised": quantised(True), "transformed": transformed,
        "mirrored": mirrored, "the other scene": other_scene, "a hidden node": hidden, "skin": skinned,
        "morph": morphed(False), "morph of the node": morphed(True), "instances": instanced, "percent": percent,
        "data URI": data_uri, "Draco": draco,
    }  # fmt: skip


def colors() -> dict[str, Callable[[], Case]]:
    half = linear(0.5)
    uv = {name: ([pair] * 12, "<f4") for name, pair in UV.items()}

    def vertex(kind: str, values: Any, **more: Any) -> Callable[[], Case]:
        return lambda: _glb(_new(COLOR_0=([values] * 12, kind, more))[0], (0.5, 1.0, 0.0))

    def factor(with_color: bool) -> Callable[[], Case]:
        def make() -> Case:
            gltf, primitive = _new(**({"COLOR_0": ([(0.5, 0.5, 0.5)] * 12, "<f4")} if with_color else {}))
            primitive["material"] = 0
            gltf.root["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [half, 1, 0, 0.1]}}]
            share = 0.5 if with_color else 1.0
            return _glb(gltf, (srgb(half * share), srgb(share), 0.0))

        return make

    def texture(info: Any, color: Any, sampler: Any = None, attributes: Any = None, **base: Any) -> Callable[[], Case]:
        def make() -> Case:
            gltf, primitive = _new(**(attributes or {"TEXCOORD_0": uv["red"]}))
            primitive["material"] = 0
            gltf.textured(info, **base)
            if sampler is not None:
                gltf.root["samplers"] = [sampler]
                gltf.root["textures"][0]["sampler"] = 0
            return _glb(gltf, color)

        return make

    def glossy() -> Case:
        gltf, primitive = _new(TEXCOORD_0=uv["red"])
        primitive["material"] = 0
        gltf.textured()
        old = {"diffuseFactor": [half, half, half, 1], "diffuseTexture": {"index": 0}}
        gltf.root["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": old}}]
        return _glb(gltf, (0.5, 0.0, 0.0))

    def missing() -> Case:
        gltf, primitive = _new(TEXCOORD_0=uv["red"])
        primitive["material"] = 0
        gltf.textured()
        gltf.root["images"] = [{"uri": "gone.png"}]
        return _glb(gltf, None)

    def beside() -> Case:
        gltf, primitive = _new(TEXCOORD_0=uv["green"])
        primitive["material"] = 0
        gltf.textured()
        gltf.root["images"] = [{"uri": "a%20picture.png"}]
        return Case({"a.glb": gltf.glb(), "a picture.png": quarters()}, GREEN)

    def half_default() -> Case:
        gltf, primitive = _new()
        plain = dict(primitive)
        primitive["material"] = 0
        gltf.root["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 0, 1]}}]
        gltf.root["meshes"][0]["primitives"] = [primitive, plain]
        return _glb(gltf, (0.5, 0.5, 0.5), np.eye(4), np.eye(4))

    def transform(**values: Any) -> dict[str, Any]:
        return {"extensions": {"KHR_texture_transform": values}}

    beyond = {"TEXCOORD_0": ([(1.2, 0.2)] * 12, "<f4")}
    sets = {"TEXCOORD_0": uv["red"], "TEXCOORD_1": uv["blue"]}
    short = {"TEXCOORD_0": ([(13107, 52428)] * 12, "<u2", {"normalized": True})}
    return {
        "COLOR_0 float": vertex("<f4", (half, 1, 0)),
        "COLOR_0 float, four": vertex("<f4", (half, 1, 0, 0.3)),
        "COLOR_0 16 bits": lambda: _glb(_new(COLOR_0=([(13107, 65535, 0, 9)] * 12, "<u2", {"normalized": True}))[0], (srgb(0.2), 1.0, 0.0)),
        "COLOR_0 8 bits": lambda: _glb(_new(COLOR_0=([(51, 255, 0, 9)] * 12, "u1", {"normalized": True}))[0], (srgb(0.2), 1.0, 0.0)),
        "factor": factor(False),
        "factor and COLOR_0": factor(True),
        "texture": texture({}, RED),
        "texture and factor": texture({}, (0.5, 0.0, 0.0), baseColorFactor=[half, 1, 1, 1]),
        "texture and COLOR_0": texture({}, (0.5, 0.0, 0.0), attributes={"TEXCOORD_0": uv["red"], "COLOR_0": ([(half, 1, 1)] * 12, "<f4")}),
        "second set": texture({"texCoord": 1}, BLUE, attributes=sets),
        "normalised coordinates": texture({}, BLUE, attributes=short),
        "repeated": texture({}, RED, attributes=beyond),
        "clamped": texture({}, GREEN, {"wrapS": 33071}, attributes=beyond),
        "mirrored": texture({}, GREEN, {"wrapS": 33648}, attributes=beyond),
        "offset": texture(transform(offset=[0.6, 0]), GREEN),
        "scale": texture(transform(scale=[4, 1]), GREEN),
        "turn": texture(transform(rotation=np.pi / 2, offset=[0, 1]), BLUE),
        "set of the transform": texture(transform(texCoord=1), BLUE, attributes=sets),
        "specular and glossy": glossy,
        "beside": beside,
        "missing": missing,
        "default material": half_default,
    }  # fmt: skip


def refusals() -> dict[str, Callable[[], Case]]:
    def changed(words: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[], Case]:
        def make() -> Case:
            gltf, _ = _new()
            change(gltf.root)
            return _refused(gltf, words)

        return make

    return {
        "glTF 1.0": changed("glTF version is 1.0", lambda r: r.update(asset={"version": "1.0"})),
        "an extension": changed("requires the glTF extension ACME_x", lambda r: r.update(extensionsRequired=["ACME_x"])),
        "a cycle": changed("its own child", lambda r: r.update(nodes=[{"children": [1], "mesh": 0}, {"children": [0]}])),
        "two parents": changed("in its scene twice", lambda r: r.update(nodes=[{"children": [1, 1]}, {"mesh": 0}])),
        "no such mesh": changed(r"meshes\[7\], which is not there", lambda r: r.update(nodes=[{"mesh": 7}])),
        "past its buffer": changed("past the end", lambda r: r["accessors"][0].update(count=1000)),
        "no triangles": changed("no triangles", lambda r: r["accessors"][1].update(count=59)),
        "past the vertices": changed("names vertex 11, but there are 10", lambda r: r["accessors"][0].update(count=10)),
        "giant and sparse": changed("more than kiss3d unfolds", lambda r: (r["accessors"][0].pop("bufferView"), r["accessors"][0].update(count=10**9))),
        "cut off": lambda: Case({"a.glb": _new()[0].glb()[:-50]}, refused="it is cut off"),
    }  # fmt: skip


def threemf(
    unit: str = "meter", resources: str = "", triangle: str = "", build: str = '<item objectid="1"/>', head: str = ""
) -> bytes:
    points = "".join('<vertex x="{}" y="{}" z="{}"/>'.format(*row) for row in VERTICES.tolist())
    rows = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"{triangle}/>' for a, b, c in TRIANGLES.tolist())
    mesh = f'<object id="1"><mesh><vertices>{points}</vertices><triangles>{rows}</triangles></mesh></object>'
    groups, _, objects = resources.partition("|")
    text = f'<model unit="{unit}" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02" {head}>'
    text += f"<resources>{groups}{mesh}{objects}</resources><build>{build}</build></model>"
    return packed(text)


def packed(text: str) -> bytes:
    data = io.BytesIO()
    relation = '<Relationship Target="/3D/3dmodel.model" Id="a" Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>'
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{relation}</Relationships>',
        )
        archive.writestr("3D/3dmodel.model", text)
    return data.getvalue()


Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
X_UP = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def print_files() -> dict[str, Callable[[], Case]]:
    colored = '<basematerials id="5"><base name="a" displaycolor="#0000FF"/><base name="b" displaycolor="#3366FFFF"/></basematerials>|'
    twice = '|<object id="2"><components><component objectid="1"/><component objectid="1" transform="1 0 0 0 1 0 0 0 1 5 0 0"/></components></object>'
    loop = '|<object id="2"><components><component objectid="2"/></components></object>'
    scale = _affine((0.0254, 0.0254, 0.0254))
    bomb = '<!DOCTYPE m [<!ENTITY a "aaaa">]><model/>'
    return {
        "metres": lambda: Case({"a.3mf": threemf()}, matrices=(Z_UP,)),
        "inches": lambda: Case({"a.3mf": threemf("inch")}, matrices=(Z_UP @ scale,)),
        "components": lambda: Case({"a.3mf": threemf(resources=twice, build='<item objectid="2"/>')}, matrices=(Z_UP, Z_UP @ _affine(move=(5, 0, 0)))),
        "materials": lambda: Case({"a.3mf": threemf(resources=colored, triangle=' pid="5" p1="1"')}, (0.2, 0.4, 1.0), matrices=(Z_UP,)),
        "an extension": lambda: Case({"a.3mf": threemf(head='requiredextensions="x" xmlns:x="http://x.org/slices"')}, refused="requires the 3MF extension http://x.org/slices"),
        "a loop": lambda: Case({"a.3mf": threemf(resources=loop, build='<item objectid="2"/>')}, refused="components contain each other"),
        "entities": lambda: Case({"a.3mf": packed(bomb)}, refused="entities, which are never read"),
        "a bomb": lambda: Case({"a.3mf": packed("<model>" + " " * (80 << 20))}, refused="unpacks to far more"),
        "no archive": lambda: Case({"a.3mf": b"PK none"}, refused="not a ZIP archive"),
    }  # fmt: skip


def dae(
    axis: str = "Y_UP", unit: str = "1", faces: str | None = None, node: str = "", more: str = "", effect: str = ""
) -> bytes:
    numbers = " ".join(str(n) for n in VERTICES.reshape(-1).tolist())
    if faces is None:
        counts = " ".join(str(len(f)) for f in POLYGONS)
        corners = " ".join(f"{i} 0" for f in POLYGONS for i in f)
        faces = f'<polylist count="8" material="s">INPUT<vcount>{counts}</vcount><p>{corners}</p></polylist>'
    inputs = '<input semantic="VERTEX" source="#v" offset="0"/><input semantic="TEXCOORD" source="#uv" offset="1"/>'
    source = '<source id="{0}"><float_array id="{0}a" count="{1}">{2}</float_array><technique_common><accessor source="#{0}a" count="{3}" stride="{4}"/></technique_common></source>'
    mesh = source.format("p", 36, numbers, 12, 3) + source.format("uv", 2, "0.2 0.8", 1, 2)
    mesh += f'<vertices id="v"><input semantic="POSITION" source="#p"/></vertices>{faces.replace("INPUT", inputs)}'
    paint = '<library_materials><material id="m"><instance_effect url="#e"/></material></library_materials>'
    paint += (
        f'<library_effects><effect id="e"><profile_COMMON>{effect}</profile_COMMON></effect></library_effects>'
        if effect
        else ""
    )
    bind = (
        '<bind_material><technique_common><instance_material symbol="s" target="#m"/></technique_common></bind_material>'
        if effect
        else ""
    )
    text = f'<?xml version="1.0"?><COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">{more}<asset><unit name="x" meter="{unit}"/><up_axis>{axis}</up_axis></asset>'
    text += f'{paint}<library_geometries><geometry id="g"><mesh>{mesh}</mesh></geometry></library_geometries><library_visual_scenes><visual_scene id="s"><node>{node}<instance_geometry url="#g">{bind}</instance_geometry></node></visual_scene></library_visual_scenes>'
    return (text + '<scene><instance_visual_scene url="#s"/></scene></COLLADA>').encode()


def collada_files() -> dict[str, Callable[[], Case]]:
    def inputs(rows: Any, tag: str) -> str:
        body = "".join(f"<p>{' '.join(f'{i} 0' for i in row)}</p>" for row in rows)
        return f'<{tag} count="{len(rows)}" material="s">INPUT{body}</{tag}>'

    color = '<technique sid="c"><phong><diffuse><color>0.2 0.4 1 1</color></diffuse></phong></technique>'
    picture = '<newparam sid="f"><surface type="2D"><init_from>i</init_from></surface></newparam><newparam sid="t"><sampler2D><source>f</source></sampler2D></newparam><technique sid="c"><lambert><diffuse><texture texture="t" texcoord="U"/></diffuse></lambert></technique>'
    image = '<library_images><image id="i"><init_from>./a%20picture.png</init_from></image></library_images>'
    moved = "<translate>1 2 3</translate><rotate>0 0 1 90</rotate><scale>2 2 2</scale>"
    turn = _affine((1, 1, 1), (1, 2, 3)) @ np.array([[0.0, -2, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    flat = inputs([TRIANGLES.reshape(-1).tolist()], "triangles")
    return {
        "polygon list": lambda: Case({"a.dae": dae()}),
        "z up in centimetres": lambda: Case({"a.dae": dae("Z_UP", "0.01")}, matrices=(Z_UP @ _affine((0.01, 0.01, 0.01)),)),
        "UTF-16": lambda: Case({"a.dae": dae().decode().replace('"1.0"?', '"1.0" encoding="utf-16"?').encode("utf-16")}),
        "a unit that is none": lambda: Case({"a.dae": dae(unit="0,01")}, refused="its unit \\('0,01' m\\)"),
        "x up": lambda: Case({"a.dae": dae("X_UP")}, matrices=(X_UP,)),
        "triangles": lambda: Case({"a.dae": dae(faces=flat)}),
        "polygons": lambda: Case({"a.dae": dae(faces=inputs(POLYGONS, "polygons"))}),
        "strips and fans": lambda: Case({"a.dae": dae(faces=inputs([[0, 5, 4, 3, 2, 1], list(range(6, 12))], "trifans") + inputs([[i for k in range(7) for i in ((k % 6) + 6, k % 6)]], "tristrips"))}),
        "moved": lambda: Case({"a.dae": dae(node=moved)}, matrices=(turn,)),
        "colour": lambda: Case({"a.dae": dae(effect=color)}, (0.2, 0.4, 1.0)),
        "texture": lambda: Case({"a.dae": dae(effect=picture, more=image), "a picture.png": quarters()}, RED),
        "a skin": lambda: Case({"a.dae": dae(node='<instance_controller url="#c"/>')}, refused="skins or morph targets"),
        "entities": lambda: Case({"a.dae": b'<!DOCTYPE a [<!ENTITY b "c">]>' + dae()}, refused="entities, which are never read"),
        "past the vertices": lambda: Case({"a.dae": dae().replace(b"11 0", b"12 0")}, refused="names vertex 12, but there are 12"),
        "numbers missing": lambda: Case({"a.dae": dae().replace(b'count="36"', b'count="39"')}, refused="declares 39 numbers, and holds 36"),
    }  # fmt: skip
