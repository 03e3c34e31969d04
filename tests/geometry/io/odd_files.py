"""The prism in files that are valid and seldom seen: several rarities at once, and what only a specification allows."""

# ruff: noqa: E501  (rows of a table, each with its whole file)

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from scene_files import Z_UP, Case, _affine, _glb, _new, dae, threemf
from solids import BLUE, POLYGONS, RED, TRIANGLES, VERTICES, quarters, srgb
from text_files import OBJ, TRIANGULATED, f_lines, ply, stl_binary, stl_text, v_lines

AROUND = [i for k in range(7) for i in ((k % 6) + 6, k % 6)]
ROWS = "".join(f"{len(f)} {' '.join(map(str, f))}\n" for f in POLYGONS)
POINTS = v_lines("{} {} {}")


def gltf_files() -> dict[str, Callable[[], Case]]:
    def everything() -> Case:
        """Normalised integers, two of them replaced, moved by a morph target that is sparse alone, under a skin."""
        step = 800 / 32767
        delta = np.zeros((12, 3), "<f4")
        delta[[3, 7]] = np.array([8, -16, 24]) / 32767
        numbers = np.round(VERTICES * 800 - 0.5 * delta * 32767).astype("<i2")
        wrong = numbers.copy()
        wrong[[0, 11]] = 999
        padded = np.concatenate([wrong, np.zeros((12, 1), "<i2")], 1)
        gltf, primitive = _new(
            JOINTS_0=([[1, 0, 0, 0]] * 12, "u1"), WEIGHTS_0=([[155, 100, 0, 0]] * 12, "u1", {"normalized": True})
        )

        def sparse(places: list[int], values: np.ndarray) -> dict[str, Any]:
            indices = {"bufferView": gltf.view(np.array(places, "<u4").tobytes()), "componentType": 5125}
            return {"count": 2, "indices": indices, "values": {"bufferView": gltf.view(values[places].tobytes())}}

        gltf.root["accessors"][primitive["attributes"]["POSITION"]] |= {
            "bufferView": gltf.view(padded.tobytes(), byteStride=8), "componentType": 5122, "normalized": True,
            "sparse": sparse([0, 11], numbers),
        }  # fmt: skip
        gltf.root["accessors"].append(
            {"componentType": 5126, "type": "VEC3", "count": 12, "sparse": sparse([3, 7], delta)}
        )
        primitive["targets"] = [{"POSITION": len(gltf.root["accessors"]) - 1}]
        gltf.root["meshes"][0]["weights"] = [0.5]
        gltf.root["skins"] = [{"joints": [1, 2]}]
        gltf.root["nodes"] = [{"mesh": 0, "skin": 0, "children": [1, 2]}, *[{"scale": [1 / step] * 3}] * 2]
        gltf.root["extensionsRequired"] = ["KHR_mesh_quantization"]
        return _glb(gltf)

    def interleaved() -> Case:
        gltf, primitive = _new()
        rows = np.zeros(12, [("pad", "<u4"), ("color", "u1", 4), ("position", "<f4", 3), ("rest", "<f4", 2)])
        rows["position"], rows["color"], rows["rest"] = VERTICES, [51, 255, 0, 7], np.nan
        view = gltf.view(b"\1" * 8 + rows.tobytes(), byteStride=28)
        gltf.root["accessors"][primitive["attributes"]["POSITION"]] |= {"bufferView": view, "byteOffset": 16}
        color = {"bufferView": view, "byteOffset": 12, "componentType": 5121, "type": "VEC4", "normalized": True}
        gltf.root["accessors"].append(color | {"count": 12})
        primitive["attributes"]["COLOR_0"] = len(gltf.root["accessors"]) - 1
        return _glb(gltf, (srgb(0.2), 1.0, 0.0))

    def uri(head: str, plain: bool = False) -> Callable[[], Case]:
        def make() -> Case:
            gltf, _ = _new()
            data = bytes(gltf.binary)
            body = "".join(f"%{byte:02x}" for byte in data) if plain else base64.b64encode(data).decode()
            return Case({"a.gltf": gltf.document(f"data:{head},{body}")})

        return make

    def more_chunks() -> Case:
        data = bytearray(_new()[0].glb())
        data += struct.pack("<I4s", 8, b"ACME") + b"\xff" * 8 + struct.pack("<I4s", 0, b"NONE")
        struct.pack_into("<I", data, 8, len(data))
        return Case({"a.glb": bytes(data) + b"after its length"})

    def unindexed(mode: int) -> Callable[[], Case]:
        def make() -> Case:
            gltf, primitive = _new()
            plain = gltf.accessor(VERTICES[TRIANGLES[:8]].reshape(-1, 3), "<f4")
            strip = gltf.accessor(VERTICES[AROUND], "<f4")
            primitive["attributes"] = {"POSITION": plain}
            del primitive["indices"]
            around = {"attributes": {"POSITION": strip}, "mode": 5}
            if mode == 6:  # a fan for each side
                around = [
                    {"attributes": {"POSITION": gltf.accessor(VERTICES[face], "<f4")}, "mode": 6}
                    for face in POLYGONS[2:]
                ]
            gltf.root["meshes"][0]["primitives"] += around if isinstance(around, list) else [around]
            return _glb(gltf)

        return make

    def buffers() -> Case:
        gltf, primitive = _new()
        root = json.loads(gltf.document("a/one.bin"))
        data = VERTICES.astype("<f4").tobytes()
        root["buffers"].append({"byteLength": len(data), "uri": "a%2Ftwo%C3%BC.bin"})
        root["bufferViews"][root["accessors"][primitive["attributes"]["POSITION"]]["bufferView"]] = {
            "buffer": 1, "byteLength": len(data)
        }  # fmt: skip
        text = b"\xef\xbb\xbf" + json.dumps(root, indent=1).encode()
        return Case({"a.gltf": text, "a/one.bin": bytes(gltf.binary) + b"more", "a/two\xfc.bin": data})

    def no_scene() -> Case:
        gltf, primitive = _new()
        dots = {"attributes": dict(primitive["attributes"]), "mode": 0}
        gltf.root["meshes"].append({"primitives": [dots]})
        gltf.root["nodes"] = [{"children": [1, 2], "name": "\u00e9\U0001f600", "camera": 0}, {"mesh": 0}, {"mesh": 1}]
        gltf.root |= {"cameras": [{"type": "perspective"}], "animations": [{"channels": [], "samplers": []}]}
        del gltf.root["scenes"], gltf.root["scene"]
        return _glb(gltf)

    def quantised_instances() -> Case:
        gltf, _ = _new()
        turn = gltf.accessor([[0, 0, 0, 127], [0, 0, 127, 0]], "i1", normalized=True)
        attributes = {"ROTATION": turn, "TRANSLATION": gltf.accessor([[0, 0, 0], [9, 0, 0]], "<f4"), "_ID": turn}
        gltf.root["nodes"] = [
            {"children": [1], "scale": [2, 2, 2]},
            {
                "mesh": 0,
                "translation": [1, 0, 0],
                "extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}},
            },
        ]
        outer = _affine((2, 2, 2)) @ _affine(move=(1, 0, 0))
        return _glb(gltf, None, outer, outer @ _affine((-1, -1, 1), (9, 0, 0)))

    def two_sets() -> Case:
        uv = [(0.1, 0.4)] * 12, "<f4"
        gltf, primitive = _new(TEXCOORD_0=([(0.9, 0.9)] * 12, "<f4"), TEXCOORD_1=uv)
        primitive["material"] = 0
        change = {"offset": [0.5, 0.1], "scale": [2, -0.5], "rotation": 0.0, "texCoord": 1}  # to (0.7, -0.1)
        gltf.textured(
            {"texCoord": 0, "extensions": {"KHR_texture_transform": change}}, baseColorFactor=[0, 0.5, 0.5, 1]
        )
        gltf.root["extensionsRequired"] = ["KHR_texture_transform"]
        return _glb(gltf, (0.0, srgb(0.5), srgb(0.5)))  # of the white quarter

    def repeated_strip() -> Case:
        gltf, primitive = _new()
        row = [AROUND[0], *AROUND, AROUND[-1], AROUND[-1]]  # corners again, as they join strips
        row = [row[0], *row]
        primitive["indices"] = gltf.accessor(TRIANGLES[:8].reshape(-1), "<u4")
        strip = dict(primitive, mode=5, indices=gltf.accessor(row, "u1"))
        gltf.root["meshes"][0]["primitives"].append(strip)
        return _glb(gltf)

    return {
        "sparse, normalised, morph and skin": everything, "interleaved": interleaved, "data URI of no type": uri(";base64"),
        "data URI of a long type": uri("application/gltf-buffer;charset=utf-8;base64"), "data URI in percent": uri("", True),
        "chunks after the binary one": more_chunks, "strip without indices": unindexed(5), "fans without indices": unindexed(6),
        "two buffers and a byte-order mark": buffers, "no scene, points and a camera": no_scene,
        "turns of 8 bits": quantised_instances, "two sets and a transform": two_sets, "corners again": repeated_strip,
    }  # fmt: skip


def text_files() -> dict[str, Callable[[], Case]]:
    def named(name: str, content: str | bytes, color: Any = None, **more: bytes) -> Callable[[], Case]:
        data = content.encode() if isinstance(content, str) else content
        return lambda: Case({name: data, **{key.replace("_", "."): value for key, value in more.items()}}, color)

    both = "mtllib one.mtl two.mtl # both\n" + v_lines() + "usemtl the red one # a\n" + f_lines(POLYGONS[:2])
    both += "usemtl the  other\n" + f_lines(POLYGONS[2:])
    sharp = {"a_mtl": b"newmtl wood #3\nKd 1 0 0\nnewmtl wood #4\nKd 0 1 0\nmap_Kd a #1.png # not there\n"}
    red = b"# a\n newmtl the red one \n\tKd 1 0 0 # b\nillum 2\n"
    other = b"newmtl the  other\r\nKd\t1 0\t0\r\nd 1\r\nmap_Bump -bm 2 x.png\r\n"
    state = "mg 1 0.5\nbevel off\nc_interp on\nd_interp off\nlod 2\nshadow_obj a b.obj\ntrace_obj c.obj\nusemap off\nmaplib m.map\ng a b c\no\n"
    written = (
        v_lines()
        .replace("0.25", "+2.5E-1")
        .replace("0.5 ", ".5 ")
        .replace("-0.125", "-1.25e-01")
        .replace("3.25", "325.e-2")
    )
    list_first = ply("binary_big_endian").decode("latin-1").partition("element vertex 12\n")
    head = (
        list_first[0]
        + list_first[1]
        + "property list uchar short more\n"
        + list_first[2].partition("end_header\n")[0]
        + "end_header\n"
    )
    body = b"".join(
        struct.pack(f">B{i % 3}h3f", i % 3, *[7] * (i % 3), *row) for i, row in enumerate(VERTICES.tolist())
    )
    body += b"".join(struct.pack(f">B{len(f)}i", len(f), *f) for f in POLYGONS)
    turned = "ply\nformat ascii 1.0\nelement material 1\nproperty list uchar int8 names\nproperty float64 shine\nelement face 8\n"
    turned += "property uint8 flags\nproperty list uint8 uint32 vertex_index\nproperty float32 nx\nelement vertex 12\n"
    turned += "property float32 confidence\nproperty float64 z\nproperty float32 x\nproperty float32 y\nelement edge 1\nproperty int vertex1\n"
    turned += "end_header\n2 1 2 nan\n" + "".join(f"9 {row} nan\n" for row in ROWS.splitlines())
    turned += "".join(f"1 {z} {x} {y}\n" for x, y, z in VERTICES.tolist()) + "0\n"
    crlf = ply("binary_little_endian").partition(b"end_header\n")
    magics = bytearray(stl_binary(b"COLOR=\x10\x20\x30\xff,MATERIAL=" + b"\xaa" * 12))
    words = stl_text().replace("my part", "facet normal of a vertex").replace("0.25", "2.5E-01")
    return {
        "obj: negative with normals": named("a.obj", v_lines() + "vn 0 0 1\n" + f_lines(form="{1}//-1")),
        "obj: negative of all three": named("a.obj", v_lines() + "vt 0 0\nvn 0 0 1\n" + f_lines(form="{1}/-1/-1")),
        "obj: two libraries, names with blanks": named("a.obj", both, RED, one_mtl=red, two_mtl=other),
        "obj: a number sign in a name": named("a.obj", f"mtllib a.mtl\n{v_lines()}usemtl wood #3\n{f_lines()}", RED, **sharp),
        "obj: a material that may be either": named("a.obj", f"mtllib a.mtl\n{v_lines()}usemtl wood\n{f_lines()}", **sharp),
        "obj: a comment after a picture": named("a.obj", f"mtllib a.mtl\n{v_lines()}vt 0.2 0.2\nusemtl p\n{f_lines(form='{0}/1')}", BLUE, a_mtl=b"newmtl p\nmap_Kd a#1.png # blue\n", **{"a#1_png": quarters()}),
        "obj: statements of no shape": named("a.obj", state + OBJ),
        "obj: numbers of every form": named("a.obj", written + f_lines()),
        "obj: no end of line": named("a.obj", TRIANGULATED.rstrip()),
        "obj: capitals in the suffix": named("a.OBJ", OBJ),
        "ply: a list before numbers": named("a.ply", head.encode("latin-1") + body),
        "ply: faces first, other elements": named("a.ply", turned),
        "ply: carriage returns above binary": named("a.ply", crlf[0].replace(b"\n", b"\r\n") + b"end_header\r\n" + crlf[2]),
        "stl: Magics' header": named("a.stl", bytes(magics)),
        "stl: a name of words of its own": named("a.stl", words),
        "stl: no name": named("a.stl", stl_text().replace(" my part", "").replace("    ", "\t")),
        "off: texture coordinates": named("a.off", "STOFF\n12 8 0\n" + POINTS.replace("\n", " 0.5 0.5\n") + ROWS),
        "off: all at once": named("a.off", "STCNOFF\n12 8 0\n" + POINTS.replace("\n", " 0 0 1 0.2 0.4 1 1 0.5 0.5\n") + ROWS, (0.2, 0.4, 1.0)),
        "off: no keyword": named("a.off", "12 8 0\n" + POINTS + ROWS),
        "off: numbers of a colour map": named("a.off", "OFF\n12 8 0\n" + POINTS + ROWS.replace("\n", " 3\n")),
    }  # fmt: skip


def scene_files() -> dict[str, Callable[[], Case]]:
    space = "http://schemas.microsoft.com/3dmanufacturing/production/2015/06"

    def production() -> Case:
        """The solid in a part of its own, named by a component."""
        with zipfile.ZipFile(io.BytesIO(threemf("millimeter"))) as archive:
            part, relations = archive.read("3D/3dmodel.model").decode(), archive.read("_rels/.rels")
        core = 'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"'
        component = (
            '<component p:path="/3D/Objects/a b.model" objectid="1" transform="1 0 0 0 1 0 0 0 1 0 0 7" p:UUID="x"/>'
        )
        text = f'<model unit="millimeter" {core} xmlns:p="{space}" requiredextensions="p"><resources><object id="8" type="model">'
        text += f'<components>{component}</components></object></resources><build p:UUID="y"><item objectid="8" transform="0 1 0 -1 0 0 0 0 1 0 0 0"/></build></model>'
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("_rels/.rels", relations)
            archive.writestr("3D/3dmodel.model", text)
            archive.writestr("3D/Objects/a b.model", part)
        turn = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # rows become columns
        return Case(
            {"a.3mf": data.getvalue()}, matrices=(Z_UP @ _affine((0.001,) * 3) @ turn @ _affine(move=(0, 0, 7)),)
        )

    def nested() -> Case:
        inner = '<object id="2"><components><component objectid="1" transform="2 0 0 0 2 0 0 0 2 0 0 0"/></components></object>'
        outer = '<object id="3" name="x"><components><component objectid="2" transform="1 0 0 0 1 0 0 0 1 4 5 6"/><component objectid="1"/></components></object>'
        build = '<item objectid="3" transform="1 0 0 0 1 0 0 0 1 0 0 100"/>'
        lift = Z_UP @ _affine((1e-6,) * 3) @ _affine(move=(0, 0, 100))
        data = threemf("micron", "|" + inner + outer, build=build)
        return Case({"a.3mf": data}, matrices=(lift @ _affine(move=(4, 5, 6)) @ _affine((2, 2, 2)), lift))

    def library_node() -> Case:
        nodes = '<library_nodes><node id="n"><translate>0 0 3</translate><instance_geometry url="#g"/></node></library_nodes>'
        node = '<node><matrix>2 0 0 1 0 2 0 0 0 0 2 0 0 0 0 1</matrix><instance_node url="#n"/></node>'
        data = dae("Z_UP", "0.0254", node=node, more=nodes)
        inch = Z_UP @ _affine((0.0254,) * 3)
        return Case({"a.dae": data}, matrices=(inch, inch @ _affine((2, 2, 2), (1, 0, 0)) @ _affine(move=(0, 0, 3))))

    hole = '<polygons count="1" material="s">INPUT<ph><p>0 0 1 0 2 0 3 0</p><h>4 0 5 0 6 0</h></ph></polygons>'
    lines = '<lines count="1">INPUT<p>0 0 1 0</p></lines>'
    whole = "".join(f"<p>{' '.join(f'{i} 0' for i in row)}</p>" for row in POLYGONS)
    return {
        "3mf: production": production, "3mf: nested in microns": nested, "dae: a node of the library": library_node,
        "dae: a hole": lambda: Case({"a.dae": dae(faces=hole)}, refused="hole"),
        "dae: lines beside": lambda: Case({"a.dae": dae(faces=lines + f'<polygons count="8" material="s">INPUT{whole}</polygons>')}),
        "dae: no unit, no axis": lambda: Case({"a.dae": dae().replace(b'<unit name="x" meter="1"/><up_axis>Y_UP</up_axis>', b"")}),
        "glTF: picture in a data URI of no type": picture_uri,
    }  # fmt: skip


def picture_uri() -> Case:
    gltf, primitive = _new(TEXCOORD_0=([(0.2, 0.2)] * 12, "<f4"))
    primitive["material"] = 0
    gltf.textured()
    gltf.root["images"] = [{"uri": "data:image/x-none;base64," + base64.b64encode(quarters()).decode()}]
    return _glb(gltf, RED)


def odd_files() -> dict[str, Callable[[], Case]]:
    return {**{f"glTF: {name}": make for name, make in gltf_files().items()}, **text_files(), **scene_files()}
