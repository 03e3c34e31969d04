"""Read mutated mesh files for as long as asked: no traceback, no hang, no memory over 4 x the file and 500 MB.

    python scripts/fuzz_meshes.py --minutes 60 [--seed 0] [--out fuzz] [--kinds obj ply glb stl off 3mf dae gltf]

Each child process imports the readers once, then mutates and reads some hundred files; its memory is limited, and
one that does not answer is ended. What fails is kept in --out with what was seen. Ends with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import copy
import io
import json
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

KINDS = ("obj", "ply", "glb", "stl", "off", "gltf", "3mf", "dae")
READ_SECONDS = 20  # processor time for one file of some kilobytes
FREE_MB = 500
CORNERS = ["0", "-1", "1", "2", "3", "255", "65535", "4294967295", "99999999999999999999", "1e308", "-1e-320", "nan",
           "inf", "0.5", "1,5", "x", "1e9", "2147483648", "-2147483649", ""]  # fmt: skip
VALUES = [None, True, -1, 0, 1, 2, 3, 7, 255, 1 << 31, 1 << 40, 1 << 62, 10**30, 0.5, 1e300, "x", "", [], {}, [0], [[]]]


def seeds() -> dict[str, list[bytes]]:
    """Small valid files of every kind, with most of what each format can say."""
    prism = [(0, 0, 0), (2, 0, 0), (2, 1, 0), (1, 1, 0), (1, 2, 0), (0, 2, 0)]
    vertices = [(x, y, z) for z in (0, 1) for x, y, _ in prism]
    polygons = [[5, 4, 3, 2, 1, 0], [6, 7, 8, 9, 10, 11], *([i, (i + 1) % 6, 6 + (i + 1) % 6, 6 + i] for i in range(6))]
    triangles = [(f[0], f[i], f[i + 1]) for f in polygons for i in range(1, len(f) - 1)]
    return {
        "obj": [_obj(vertices, polygons, True), _obj(vertices, triangles, False)],
        "ply": [_ply(vertices, polygons, kind) for kind in ("ascii", "binary_little_endian", "binary_big_endian")],
        "stl": [_stl_text(vertices, triangles), _stl_binary(vertices, triangles)],
        "off": [_off(vertices, polygons, False), _off(vertices, polygons, True)],
        "glb": [
            *(_glb(*_document(vertices, triangles, rich)) for rich in (False, True)),
            *_packed(vertices, triangles),
        ],
        "gltf": [_gltf(*_document(vertices, triangles, True))],
        "3mf": [_3mf(vertices, triangles)],
        "dae": [_dae(vertices, polygons)],
    }


def _obj(vertices: list, polygons: list, rich: bool) -> bytes:
    lines = [f"v {x} {y} {z}" + (f" {x / 2} {y / 2} {z}" if rich else "") for x, y, z in vertices]
    if rich:
        lines = ["mtllib a.mtl", "o part", *lines, "vt 0 0", "vt 1 1", "vn 0 0 1", "usemtl m", "s 1"]
        for row in polygons:
            lines.append("f " + " ".join(f"{i - len(vertices)}/{i % 2 + 1}/1" for i in row) + " # face")
        lines += ["l 1 2", "p 1", "g \\", "next"]
    else:
        lines += ["f " + " ".join(str(i + 1) for i in row) for row in polygons]
    return ("\n".join(lines) + "\n").encode()


def _ply(vertices: list, polygons: list, kind: str) -> bytes:
    head = f"ply\nformat {kind} 1.0\ncomment seed\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\n"
    head += "property double z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
    head += f"element face {len(polygons)}\nproperty list uchar int vertex_indices\nproperty uchar flags\n"
    head += "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    strip = [0, 1, 2, -1, 3, 4, 5]
    if kind == "ascii":
        lines = [f"{x} {y} {z} 10 20 30" for x, y, z in vertices]
        lines += [f"{len(row)} {' '.join(map(str, row))} 7" for row in polygons]
        return (head + "\n".join([*lines, f"{len(strip)} {' '.join(map(str, strip))}"]) + "\n").encode()
    order = "<" if "little" in kind else ">"
    body = b"".join(struct.pack(order + "ffdBBB", x, y, z, 10, 20, 30) for x, y, z in vertices)
    body += b"".join(struct.pack(f"{order}B{len(row)}iB", len(row), *row, 7) for row in polygons)
    return head.encode() + body + struct.pack(f"{order}i{len(strip)}i", len(strip), *strip)


def _stl_text(vertices: list, triangles: list) -> bytes:
    facets = []
    for row in triangles:
        corners = "".join("vertex {} {} {}\n".format(*vertices[i]) for i in row)
        facets.append(f"facet normal 0 0 1\nouter loop\n{corners}endloop\nendfacet\n")
    return f"solid part\n{''.join(facets)}endsolid part\n".encode()


def _stl_binary(vertices: list, triangles: list) -> bytes:
    rows = [struct.pack("<12fH", 0, 0, 1, *(n for i in row for n in vertices[i]), 0) for row in triangles]
    return b"binary".ljust(80) + struct.pack("<I", len(rows)) + b"".join(rows)


def _off(vertices: list, polygons: list, colored: bool) -> bytes:
    lines = ["COFF" if colored else "OFF", f"{len(vertices)} {len(polygons)} 0"]
    lines += [f"{x} {y} {z}" + (" 10 20 30 255" if colored else "") for x, y, z in vertices]
    lines += [f"{len(row)} {' '.join(map(str, row))}" + (" 9 9 9" if colored else "") for row in polygons]
    return ("\n".join(lines) + "\n").encode()


def _png() -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.linear_gradient("L").resize((4, 4)).convert("RGB").save(data, "PNG")
    return data.getvalue()


def _document(vertices: list, triangles: list, rich: bool) -> tuple[dict, bytes]:
    """A glTF with skins, morphs, sparse accessors, instances, a texture and a strip, if `rich`."""
    binary, views, accessors = bytearray(), [], []

    def view(data: bytes) -> int:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        binary.extend(data + b"\0" * (-len(data) % 4))
        return len(views) - 1

    def accessor(fmt: str, kind: int, shape: str, rows: list, **more: object) -> int:
        data = b"".join(struct.pack("<" + fmt, *(row if isinstance(row, tuple) else (row,))) for row in rows)
        accessors.append({"bufferView": view(data), "componentType": kind, "type": shape, "count": len(rows), **more})
        return len(accessors) - 1

    count = len(vertices)
    position = accessor("3f", 5126, "VEC3", vertices)
    indices = accessor("H", 5123, "SCALAR", [i for row in triangles for i in row])
    primitive: dict = {"attributes": {"POSITION": position}, "indices": indices}
    root: dict = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
                  "meshes": [{"primitives": [primitive]}]}  # fmt: skip
    if rich:
        primitive["attributes"] |= {
            "COLOR_0": accessor("4H", 5123, "VEC4", [(65535, 100, 0, 9)] * count, normalized=True),
            "TEXCOORD_0": accessor("2f", 5126, "VEC2", [(x / 2, y / 2) for x, y, _ in vertices]),
            "TEXCOORD_1": accessor("2H", 5123, "VEC2", [(9, 9)] * count, normalized=True),
            "JOINTS_0": accessor("4B", 5121, "VEC4", [(0, 1, 0, 0)] * count),
            "WEIGHTS_0": accessor("4f", 5126, "VEC4", [(0.5, 0.5, 0, 0)] * count),
        }
        sparse = {"count": 1, "indices": {"bufferView": view(struct.pack("<H", 3)), "componentType": 5123},
                  "values": {"bufferView": view(struct.pack("<3f", 0, 0, 1))}}  # fmt: skip
        accessors.append({"componentType": 5126, "type": "VEC3", "count": count, "sparse": sparse})
        primitive |= {"targets": [{"POSITION": len(accessors) - 1}], "material": 0}
        strip = {"attributes": {"POSITION": position}, "mode": 5}
        turn, move = [(0.0, 0.0, 0.0, 1.0)] * 2, [(3.0, 0.0, 0.0), (6.0, 0.0, 0.0)]
        instanced = {"TRANSLATION": accessor("3f", 5126, "VEC3", move), "ROTATION": accessor("4f", 5126, "VEC4", turn)}
        identity = tuple(float(i % 5 == 0) for i in range(16))
        inverse = accessor("16f", 5126, "MAT4", [identity, identity])
        root["meshes"] = [{"primitives": [primitive, strip], "weights": [0.5]}, {"primitives": [strip]}]
        root["nodes"] = [
            {"children": [1, 2, 3], "scale": [2, 2, 2]}, {"mesh": 0, "skin": 0}, {"translation": [1, 0, 0]},
            {"mesh": 1, "rotation": [0, 0, 0, 1], "extensions": {"EXT_mesh_gpu_instancing": {"attributes": instanced}}},
        ]  # fmt: skip
        root["skins"] = [{"joints": [1, 2], "inverseBindMatrices": inverse}]
        info = {"index": 0, "texCoord": 1, "extensions": {"KHR_texture_transform": {"offset": [0.1, 0], "rotation": 1}}}
        root["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [1, 0.5, 0, 1], "baseColorTexture": info}}]
        root["textures"], root["samplers"] = [{"source": 0, "sampler": 0}], [{"wrapS": 33071, "magFilter": 9728}]
        root["images"] = [{"bufferView": view(_png()), "mimeType": "image/png"}]
        root["extensionsUsed"] = ["EXT_mesh_gpu_instancing", "KHR_texture_transform"]
    root |= {"accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": len(binary)}]}
    return root, bytes(binary)


def _glb(root: object, binary: bytes) -> bytes:
    text = json.dumps(root).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(binary))
    parts = (struct.pack("<II", len(text), 0x4E4F534A), text, struct.pack("<II", len(binary), 0x004E4942), binary)
    return head + b"".join(parts)


def _packed(vertices: list, triangles: list) -> list[bytes]:
    """With compressed buffer views, of the encoders that are installed."""
    import numpy as np

    position, corners = np.array(vertices, "<f4"), np.array(triangles, "<u2")
    root, _ = _document(vertices, triangles, False)
    found = []
    with contextlib.suppress(ImportError):
        import DracoPy

        data = DracoPy.encode(position, corners.astype("u4"), preserve_order=True)
        draco = copy.deepcopy(root) | {"bufferViews": [{"buffer": 0, "byteLength": len(data)}]}
        packed = {"bufferView": 0, "attributes": {"POSITION": 0}}
        draco["meshes"][0]["primitives"][0]["extensions"] = {"KHR_draco_mesh_compression": packed}
        draco["buffers"][0]["byteLength"] = len(data)
        found.append(_glb(draco, data))
    with contextlib.suppress(ImportError):
        import meshopt

        parts = meshopt.encode_gltf_buffer(position, "ATTRIBUTES"), meshopt.encode_gltf_buffer(corners, "TRIANGLES")
        sizes = ((0, "ATTRIBUTES", 12, len(position)), (len(parts[0]), "TRIANGLES", 2, corners.size))
        views = []
        for part, (start, mode, stride, count) in zip(parts, sizes, strict=True):
            extension = {"buffer": 0, "byteOffset": start, "byteLength": len(part), "mode": mode, "byteStride": stride}
            named = {"EXT_meshopt_compression": {**extension, "count": count}}
            views.append({"buffer": 1, "byteLength": stride * count, "extensions": named})
        buffers = [{"byteLength": len(b"".join(parts))}, {"byteLength": 10_000}]
        required = {"extensionsRequired": ["EXT_meshopt_compression"]}
        found.append(_glb(copy.deepcopy(root) | required | {"bufferViews": views, "buffers": buffers}, b"".join(parts)))
    return found


def _gltf(root: dict, binary: bytes) -> bytes:
    uri = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
    return json.dumps({**root, "buffers": [{"byteLength": len(binary), "uri": uri}]}).encode()


def _3mf_text(vertices: list, triangles: list) -> bytes:
    space = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
    points = "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in vertices)
    faces = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}" pid="9" p1="0"/>' for a, b, c in triangles)
    mesh = f"<mesh><vertices>{points}</vertices><triangles>{faces}</triangles></mesh>"
    both = '<component objectid="1"/><component objectid="1" transform="1 0 0 0 1 0 0 0 1 5 0 0"/>'
    objects = (
        f'<object id="1" pid="9" pindex="0">{mesh}</object><object id="2"><components>{both}</components></object>'
    )
    colors = '<basematerials id="9"><base name="a" displaycolor="#FF8000FF"/></basematerials>'
    build = '<build><item objectid="2"/></build>'
    return f'<model unit="inch" xmlns="{space}"><resources>{colors}{objects}</resources>{build}</model>'.encode()


def _3mf_zip(text: bytes) -> bytes:
    data = io.BytesIO()
    relation = '<Relationship Target="/3D/3dmodel.model" Id="a" Type="http://schemas.microsoft.com/3dmanufacturing/'
    relation += '2013/01/3dmodel"/>'
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_rels/.rels", f"<Relationships>{relation}</Relationships>")
        archive.writestr("3D/3dmodel.model", text)
    return data.getvalue()


def _3mf(vertices: list, triangles: list) -> bytes:
    return _3mf_zip(_3mf_text(vertices, triangles))


def _dae(vertices: list, polygons: list) -> bytes:
    numbers = " ".join(str(n) for row in vertices for n in row)
    counts, corners = " ".join(str(len(row)) for row in polygons), " ".join(str(i) for row in polygons for i in row)
    return f"""<COLLADA version="1.4.1"><asset><unit meter="0.01"/><up_axis>Z_UP</up_axis></asset>
<library_effects><effect id="e"><profile_COMMON><technique sid="c"><lambert><diffuse><color>1 0.5 0 1</color></diffuse>
</lambert></technique></profile_COMMON></effect></library_effects>
<library_materials><material id="m"><instance_effect url="#e"/></material></library_materials>
<library_geometries><geometry id="g"><mesh><source id="p"><float_array id="a" count="{3 * len(vertices)}">{numbers}
</float_array><technique_common><accessor source="#a" count="{len(vertices)}" stride="3"><param name="X" type="float"/>
<param name="Y" type="float"/><param name="Z" type="float"/></accessor></technique_common></source>
<vertices id="v"><input semantic="POSITION" source="#p"/></vertices><polylist count="{len(polygons)}" material="s">
<input semantic="VERTEX" source="#v" offset="0"/><vcount>{counts}</vcount><p>{corners}</p></polylist></mesh></geometry>
</library_geometries><library_visual_scenes><visual_scene id="s"><node><matrix>1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1</matrix>
<rotate>0 0 1 30</rotate><scale>1 2 1</scale><instance_geometry url="#g"><bind_material><technique_common>
<instance_material symbol="s" target="#m"/></technique_common></bind_material></instance_geometry></node></visual_scene>
</library_visual_scenes><scene><instance_visual_scene url="#s"/></scene></COLLADA>""".encode()


def mutated(rng: random.Random, kind: str, data: bytes, others: list[bytes]) -> bytes:
    """One to three changes: some of bytes, some of numbers, some of the structure under a container's lengths."""
    if kind == "3mf" and rng.random() < 0.8:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text = archive.read("3D/3dmodel.model")
        return _3mf_zip(mutated(rng, "xml", text, [text]))
    if kind in ("glb", "gltf") and rng.random() < 0.6:
        return _mutated_document(rng, kind, data)
    if kind == "glb" and rng.random() < 0.7:  # under lengths that are right, so that its data are decoded
        start = struct.unpack_from("<I", data, 12)[0]
        binary = data[28 + start :]
        for _ in range(rng.randint(1, 3)):
            binary = _mutated_once(rng, binary, [binary])
        return _glb(json.loads(data[20 : 20 + start]), binary)
    for _ in range(rng.randint(1, 3)):
        data = _mutated_once(rng, data, others)
    return data


def _mutated_document(rng: random.Random, kind: str, data: bytes) -> bytes:
    start = struct.unpack_from("<I", data, 12)[0] if kind == "glb" else 0
    root = json.loads(data[20 : 20 + start] if kind == "glb" else data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        places: list[tuple[object, object]] = []
        stack = [root]
        while stack:
            value = stack.pop()
            keys = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for key, inner in keys:
                places.append((value, key))
                stack.append(inner)
        if not places:
            break
        parent, key = rng.choice(places)
        other_parent, other_key = rng.choice(places)
        change = rng.random()
        value = parent[key]  # type: ignore[index]
        if change < 0.4 and type(value) in (int, float):  # what may still be read
            parent[key] = value + rng.choice([-1, 1, 2, 12]) if type(value) is int else value * rng.uniform(-2, 2)  # type: ignore[index]
        elif change < 0.6:
            parent[key] = copy.deepcopy(rng.choice(VALUES))  # type: ignore[index]
        elif change < 0.8:
            parent[key] = json.loads(json.dumps(other_parent[other_key]))  # type: ignore[index]
        elif isinstance(parent, dict):
            del parent[key]
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(rng.choice(VALUES)))
    return _glb(root, data[28 + start :]) if kind == "glb" else json.dumps(root).encode()


def _mutated_once(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    if not data:
        return data
    at, change = rng.randrange(len(data)), rng.randrange(9)
    size = min(rng.choice([1, 2, 4, 8, 30, 300]), len(data) - at)
    if change == 0:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if change == 1:
        return data[:at] + data[at + size :]
    if change == 2:
        return data[: at + size] + data[at : at + size] * rng.choice([1, 2, 50]) + data[at + size :]
    if change == 3:
        return data[:at]
    if change == 4:
        other = rng.choice(others)
        cut = rng.randrange(len(other))
        return data[:at] + other[cut : cut + size] + data[at:]
    if change == 5:
        value = rng.choice([0, 1, 255, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x7F800000, 0x7FC00000])
        return data[:at] + struct.pack(rng.choice("<>") + "I", value) + data[at + 4 :]
    digits = [i for i in range(at, min(at + 200, len(data))) if 48 <= data[i] < 58]
    if not digits:
        return data[:at] + rng.choice([b"\n", b" ", b"\0", b"\xff", b"<", b'"', b"\\", b"/", b"-"]) + data[at:]
    end = digits[0]
    while end < len(data) and 48 <= data[end] < 58:
        end += 1
    return data[: digits[0]] + rng.choice(CORNERS).encode() + data[end:]


class Hang(BaseException):
    """Beyond what a reader could catch by mistake."""


def _on_time(*_: object) -> None:
    raise Hang


def _memory(reset: bool) -> int:
    """The most resident bytes since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM" if not reset else "VmRSS"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell a process's memory")


def child(seed: int, count: int, kinds: list[str]) -> None:
    """Prints one JSON line a file, before it is read and after."""
    import torch

    from kiss3d_cli.core.errors import Kiss3dError
    from kiss3d_cli.geometry.io.load import read_geometry

    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, _on_time)
    known, rng = seeds(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("a.mtl", b"newmtl m\nKd 1 0.5 0\nmap_Kd a.png\n"), ("a.png", _png())):
            (Path(folder) / name).write_bytes(data)
        used = sum(int(line.split()[1]) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
                   if line.startswith("VmSize")) * 1024  # fmt: skip
        resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), used + (3 << 30)))
        for number in range(count):
            kind = rng.choice(kinds)
            data = mutated(rng, kind, rng.choice(known[kind]), known[kind])
            path = Path(folder) / f"case.{kind}"
            path.write_bytes(data)
            print(json.dumps({"number": number, "kind": kind, "data": base64.b64encode(data).decode()}), flush=True)
            before, outcome, why = _memory(True), "read", ""
            signal.setitimer(signal.ITIMER_PROF, READ_SECONDS)
            try:
                read_geometry(path, textures=bool(number % 2))
            except Kiss3dError as error:
                outcome, why = type(error).__name__, error.cause
                if "\n" in error.cause or not error.hint:
                    outcome = "bad message"
            except Hang:
                outcome = "hang"
            except BaseException:
                outcome, why = "traceback", traceback.format_exc()
            signal.setitimer(signal.ITIMER_PROF, 0)
            grown = _memory(False) - before
            if grown > 4 * len(data) + (FREE_MB << 20):
                outcome, why = "memory", f"{grown >> 20} MB for {len(data)} bytes; {why}"
            print(json.dumps({"outcome": outcome, "why": why}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="of processor time of the children")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--batch", type=int, default=1000, help="files a child reads")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.batch, options.kinds)
        return
    seed, outcomes, causes = options.seed, collections.Counter(), collections.Counter()
    failed = 0
    while _spent() < 60 * options.minutes:
        command = [sys.executable, __file__, "--child", str(seed), "--batch", str(options.batch), "--kinds"]
        with subprocess.Popen([*command, *options.kinds], stdout=subprocess.PIPE, text=True) as process:
            case: dict = {}
            assert process.stdout is not None
            timer = _Watch(process)
            for line in process.stdout:
                timer.last = time.monotonic()
                record = json.loads(line)
                if "data" in record:
                    case = record
                    continue
                outcomes[record["outcome"]] += 1
                causes[record["why"].split("(")[-1][:40]] += record["outcome"] == "BadInput"
                if record["outcome"] not in ("read", "BadInput", "Missing"):
                    failed += 1
                    _keep(options.out, seed, case, record)
                case = {}
            timer.stop()
            code = process.wait()
        if code != 0:
            failed += 1
            outcomes["ended"] += 1
            if case:
                _keep(options.out, seed, case, {"outcome": "ended", "why": f"the process ended with {code}"})
        seed += 1
        said = ", ".join(f"{name} {count}" for name, count in outcomes.most_common())
        print(f"{_spent() / 60:7.1f} min of processor time, seed {seed}: {said}", flush=True)
    print(f"{sum(outcomes.values())} files, {_spent() / 3600:.2f} processor hours, {failed} failures")
    sys.exit(1 if failed else 0)


class _Watch:
    """Ends a child that says nothing for long: a hang inside a library."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        import threading

        self.process, self.last, self.done = process, time.monotonic(), threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.done.wait(5):
            if time.monotonic() - self.last > 60 * READ_SECONDS:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
                return

    def stop(self) -> None:
        self.done.set()


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _keep(folder: Path, seed: int, case: dict, record: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{record['outcome'].replace(' ', '_')}-{seed}-{case.get('number', 'x')}"
    (folder / f"{name}.{case.get('kind', 'bin')}").write_bytes(base64.b64decode(case.get("data", "")))
    (folder / f"{name}.txt").write_text(record["why"] + "\n", encoding="utf-8")
    print(f"kept {folder / name}: {record['why'].strip().splitlines()[-1:] or ''}", flush=True)


if __name__ == "__main__":
    main()
