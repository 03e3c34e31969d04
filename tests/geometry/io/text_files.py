"""The prism as OBJ, PLY, STL and OFF, in every way that these are written; and what none of them may be."""

# ruff: noqa: E501  (rows of a table, each with its whole file)

from __future__ import annotations

import struct
from typing import Any

from solids import POLYGONS, TRIANGLES, VERTICES, quarters

Files = dict[str, bytes]


def v_lines(form: str = "v {} {} {}") -> str:
    return "".join(form.format(*row) + "\n" for row in VERTICES.tolist())


def f_lines(faces: Any = POLYGONS, form: str = "{0}") -> str:
    return "".join("f " + " ".join(form.format(i + 1, i - 12) for i in face) + "\n" for face in faces)


OBJ = v_lines() + f_lines()
TRIANGULATED = v_lines() + f_lines(TRIANGLES.tolist())
MTL = "newmtl paint\nKa 0 0 0\n"


def textured(map_line: str, uv: str = "vt 0.2 0.8\n") -> str:
    return f"mtllib my things.mtl\n{v_lines()}{uv}usemtl paint\n" + f_lines(form="{0}/1")


def interleaved() -> str:
    """Each polygon's own vertices just before it, counted from the end."""
    text = ""
    for face in POLYGONS:
        text += "".join("v {} {} {}\n".format(*VERTICES[i]) for i in face)
        text += "f " + " ".join(str(i - len(face)) for i in range(len(face))) + "\n"
    return text


def obj_files() -> dict[str, tuple[str | Files, Any]]:
    """Text (or files, `a.obj` first) and what is to come: a mean colour, None for none, or a refusal's words."""
    white = {
        "my things.mtl": (MTL + "map_Kd -clamp on sub\\my picture.png\n").encode(),
        "sub/my picture.png": quarters(),
    }
    factor = {**white, "my things.mtl": (MTL + "Kd 0.5 0.5 0.5\nmap_Kd sub/MY picture.png\n").encode()}
    moved = {**white, "my things.mtl": (MTL + "map_Kd -s 0.5 1 1 -o 0.6 0 sub/my picture.png\n").encode()}
    tall = "".join(line + " 0.25 0.5 0.75\n" for line in v_lines().splitlines())
    return {
        "triangles": (TRIANGULATED, None),
        "quads and concave polygons": (OBJ, None),
        "negative": (v_lines() + f_lines(form="{1}"), None),
        "negative between blocks": (interleaved(), None),
        "byte-order mark": ("\ufeff# text\n" + OBJ, None),
        "carriage returns": (OBJ.replace("\n", "\r\n"), None),
        "old Mac lines": (OBJ.replace("\n", "\r"), None),
        "tabs": (OBJ.replace(" ", "\t"), None),
        "indents": (OBJ.replace("\nf", "\n  f").replace("\nv", "\n\tv"), None),
        "trailing comments": (OBJ.replace("\n", " # an fv/1 comment\n"), None),
        "continued lines": (OBJ.replace("f 6 5", "f 6 \\\n5").replace("v 0.25 0.5", "v 0.25\\\n 0.5"), None),
        "texture coordinates": (v_lines() + "vt 0 0\n" + f_lines(form="{0}/1"), None),
        "normals": (v_lines() + "vn 0 0 1\n" + f_lines(form="{0}//1"), None),
        "both": (v_lines() + "vt 0 0 0\nvn 0 0 1\n" + f_lines(form="{0}/1/1"), None),
        "mixed corners": (v_lines() + "vt 0 0\nvn 0 0 1\n" + f_lines().replace("f 6 5 4", "f 6/1 5//1 4/1/1"), None),
        "empty corners": (v_lines() + f_lines(form="{0}//"), None),
        "two-vertex faces": (OBJ + "f 1 2\n", None),
        "first corner again": (OBJ.replace("f 6 5 4 3 2 1", "f 6 5 4 3 2 1 6"), None),
        "faces before vertices": (f_lines() + v_lines(), None),
        "weights of one": (OBJ.replace("\nv", " 1.0\nv").replace("\nf", " 1\nf", 1), None),
        "groups and lines": ("o a#b\n" + OBJ + "g x\ns off\nusemtl none\nl 1 2\np 3\nvp 0 0\n", None),
        "vertex colours": (tall + f_lines(), (0.25, 0.5, 0.75)),
        "vertex colours of 255": (tall.replace("0.25 0.5 0.75\n", "51 102 255\n") + f_lines(), (0.2, 0.4, 1.0)),
        "colours on some": (v_lines().replace("\n", " 1 0 0\n", 5) + f_lines(), None),
        "material": (
            {"a.obj": textured("").encode(), "my things.mtl": (MTL + "Kd 0.2 0.4 0.6\n").encode()},
            (0.2, 0.4, 0.6),
        ),
        "texture with blanks": ({"a.obj": textured("").encode(), **white}, (1.0, 0.0, 0.0)),
        "texture and factor": ({"a.obj": textured("").encode(), **factor}, (0.5, 0.0, 0.0)),
        "texture moved": ({"a.obj": textured("").encode(), **moved}, (0.0, 1.0, 0.0)),
        "texture missing": ({"a.obj": textured("").encode(), "my things.mtl": white["my things.mtl"]}, None),
        "library missing": (textured(""), None),
        "zero-based": (v_lines() + f_lines().replace(" 6", " 0"), "names vertex 0, but OBJ counts from 1"),
        "past the end": (OBJ + "f 1 2 99\n", "line 21 names vertex 99, but there are 12"),
        "before the start": (OBJ + "f 1 2 -99\n", "line 21 counts back to before the first vertex"),
        "unknown statement": (OBJ + "fo 1 2 3\n", r"line 21 is not understood: 'fo 1 2 3'"),
        "free-form surface": (OBJ + "surf 0 1 0 1 1 2 3\n", "line 21 is a free-form surface"),
        "crossing polygon": (OBJ.replace("f 1 2 8 7", "f 1 8 2 7"), "line 15 .*crosses itself"),
        "a weight": (OBJ.replace("\nv", " 2.0\nv", 1), "line 1 has a vertex with a weight"),
        "decimal comma": (OBJ.replace("0.25 0.5", "0,25 0.5", 1), "line 1 is not a row of numbers: 'v 0,25"),
        "not finite in a polygon": (
            OBJ.replace("v 0.25 0.5 -0.125", "v 1e999 0.5 0", 1),
            "a corner that is NaN or infinite",
        ),
        "too large in a polygon": (OBJ.replace("v 0.25 0.5 -0.125", "v 1e300 0.5 0", 1), "too large to measure"),
        "a coordinate missing": (OBJ.replace("v 0.25 0.5 -0.125", "v 0.25 0.5", 1), "line 1 is not a row of numbers"),
        "a word in a face": (OBJ.replace("f 6 5", "f 6 five"), "line 13 is not a face"),
        "UTF-16": ({"a.obj": OBJ.encode("utf-16")}, None),
        "zero bytes": ({"a.obj": OBJ.encode() + b"\0"}, "it is not text"),
    }


def ply(
    kind: str = "ascii", faces: Any = POLYGONS, number: str = "float", count: str = "uchar", more: str = ""
) -> bytes:
    """`more` is colours: names and a type, with the same values at every vertex."""
    names, values, kind_of = more.split("|") if more else ("", "", "")
    extra = "".join(f"property {kind_of} {name}\n" for name in names.split())
    head = f"ply\nformat {kind} 1.0\ncomment caf\xe9\nobj_info none\nelement vertex 12\n"
    head += "".join(f"property {number} {axis}\n" for axis in "xyz") + extra
    head += f"element face {len(faces)}\nproperty list {count} int vertex_indices\nend_header\n"
    rows = values.split()
    if kind == "ascii":
        text = "".join(" ".join(map(str, [*row, *rows])) + "\n" for row in VERTICES.tolist())
        text += "".join(f"{len(face)} {' '.join(map(str, face))}\n" for face in faces)
        return (head + text).encode("latin-1")
    order = "<" if "little" in kind else ">"
    codes = {"float": "f", "double": "d", "uchar": "B", "ushort": "H", "uint": "I", "int": "i"}
    form, numbers = order + 3 * codes[number], []
    if more:
        form += codes[kind_of] * len(rows)
        numbers = [float(v) if kind_of in ("float", "double") else int(v) for v in rows]
    body = b"".join(struct.pack(form, *row, *numbers) for row in VERTICES.tolist())
    body += b"".join(struct.pack(f"{order}{codes[count]}{len(face)}i", len(face), *face) for face in faces)
    return head.encode("latin-1") + body


def ply_files() -> dict[str, tuple[bytes | Files, Any]]:
    little, big = "binary_little_endian", "binary_big_endian"
    text = ply()
    triangles = [" ".join(map(str, row)) + " -1" for row in TRIANGLES.tolist()]
    strip_text = text[: text.index(b"element face")].decode("latin-1")
    strip_text += f"element tristrips 1\nproperty list int int vertex_indices\nend_header\n{v_lines('{} {} {}')}"
    strip_text += f"{4 * len(triangles)} {' '.join(triangles)}\n"
    painted = text.replace(b"int vertex_indices\n", b"int vertex_indices\nproperty uchar red\nproperty uchar green\nproperty "
                           b"uchar blue\n")  # fmt: skip
    head, rows = painted.split(b"end_header\n")
    lines = rows.decode().splitlines()
    face_colored = head + b"end_header\n" + "".join(
        line + (" 51 102 255\n" if i >= 12 else "\n") for i, line in enumerate(lines)
    ).encode()  # fmt: skip
    wedges = text.replace(b"comment", b"comment TextureFile my picture.png\ncomment", 1).replace(
        b"int vertex_indices\n", b"int vertex_indices\nproperty list uchar float texcoord\n"
    )
    head, rows = wedges.split(b"end_header\n")
    lines = rows.decode().splitlines()
    wedge_rows = [
        line + (f" {2 * len(POLYGONS[i - 12])}" + " 0.8 0.2" * len(POLYGONS[i - 12]) if i >= 12 else "")
        for i, line in enumerate(lines)
    ]
    wedge = head + b"end_header\n" + ("\n".join(wedge_rows) + "\n").encode()
    return {
        "text": (text, None),
        "text, triangles": (ply(faces=TRIANGLES.tolist()), None),
        "little": (ply(little, TRIANGLES.tolist()), None),
        "little, mixed polygons": (ply(little), None),
        "big, mixed polygons": (ply(big, number="double"), None),
        "big, long counts": (ply(big, count="int"), None),
        "short counts": (ply(little, count="ushort"), None),
        "carriage returns": (text.replace(b"\n", b"\r\n"), None),
        "triangle strips": (strip_text.encode("latin-1"), None),
        "colours of bytes": (ply(little, more="red green blue alpha|51 102 255 9|uchar"), (0.2, 0.4, 1.0)),
        "colours of 16 bits": (ply(big, more="red green blue|13107 26214 65535|ushort"), (0.2, 0.4, 1.0)),
        "colours of floats": (ply(more="red green blue|0.25 0.5 1|float"), (0.25, 0.5, 1.0)),
        "diffuse colours": (ply(more="diffuse_red diffuse_green diffuse_blue|51 102 255|uchar"), (0.2, 0.4, 1.0)),
        "colours of faces": (face_colored, (0.2, 0.4, 1.0)),
        "texture of corners": ({"a.ply": wedge, "my picture.png": quarters()}, (1.0, 1.0, 1.0)),
        "texture missing": (wedge, None),
        "cut-off text": (text[: text.rindex(b" ")].rstrip(), "cut off"),
        "cut-off text between rows": (
            text[: text.rstrip().rindex(b"\n") + 1],
            "declares 8 rows of 'face', and it holds 7",
        ),
        "cut-off binary": (ply(little)[:-3], "cut off"),
        "cut-off vertices": (ply(little)[:-200], "declares 12 rows of 'vertex'"),
        "longer": (text + b"3 0 1 2\n", "goes on after the last row"),
        "longer binary": (ply(big) + b"more", "goes on after the last row"),
        "longer rows": (text.replace(b"-0.125\n", b"-0.125 1\n"), "starts a list with|goes on|cut off|not there"),
        "a word": (text.replace(b"0.25", b"a.25", 1), "is not a number"),
        "past the end": (text.replace(b"6 5 4 3", b"6 5 44 3"), "names vertex 44, but there are 12"),
        "unknown header": (text.replace(b"comment", b"remark"), "line 3 of its header is not understood"),
        "a type unknown": (text.replace(b"float x", b"half x"), "header is not understood: 'property half x'"),
    }


def stl_binary(name: bytes = b"binary") -> bytes:
    rows = [struct.pack("<12fH", 0, 0, 0, *VERTICES[list(row)].reshape(-1), 7) for row in TRIANGLES.tolist()]
    return name.ljust(80) + struct.pack("<I", len(rows)) + b"".join(rows)


def stl_text(triangles: Any = TRIANGLES) -> str:
    text = "solid my part\n"
    for row in triangles.tolist():
        corners = "".join("      vertex {} {} {}\n".format(*VERTICES[i]) for i in row)
        text += f"  facet normal 0 0 0\n    outer loop\n{corners}    endloop\n  endfacet\n"
    return text + "endsolid my part\n"


def stl_files() -> dict[str, tuple[bytes | str, Any]]:
    two = stl_text(TRIANGLES[:7]) + stl_text(TRIANGLES[7:])
    return {
        "binary": (stl_binary(), None),
        "binary that starts as text": (stl_binary(b"solid by a program"), None),
        "text": (stl_text(), None),
        "text in capitals": (stl_text().upper(), None),
        "text, carriage returns": (stl_text().replace("\n", "\r\n"), None),
        "two solids": (two, None),
        "cut-off binary": (stl_binary()[:-20], "declares 20 triangles, and it holds 19"),
        "longer binary": (stl_binary() + b"more", "goes on after"),
        "cut-off text": (stl_text()[:-300], "line .* is not what an STL has there|cut off"),
        "a word": (stl_text().replace("0.25", "a", 1), "not three numbers"),
    }


def off_files() -> dict[str, tuple[str, Any]]:
    points, rows = v_lines("{} {} {}"), "".join(f"{len(f)} {' '.join(map(str, f))}\n" for f in POLYGONS)
    bare = points.replace("\n", " 51 102 255 255\n")
    return {
        "plain": (f"OFF\n12 8 0\n{points}{rows}", None),
        "counts beside": (f"OFF 12 8 18\n{points}{rows}", None),
        "ModelNet's": (f"OFF12 8 0\n{points}{rows}", None),
        "comments": (f"# a\nOFF\n\n12 8 0 # b\n{points}# c\n\n{rows}", None),
        "normals": ("NOFF\n12 8 0\n" + points.replace("\n", " 0 0 1\n") + rows, None),
        "colours of vertices": (f"COFF\n12 8 0\n{bare}{rows}", (0.2, 0.4, 1.0)),
        "colours of faces": (f"OFF\n12 8 0\n{points}" + rows.replace("\n", " 51 102 255\n"), (0.2, 0.4, 1.0)),
        "MeshLab's colours and normals": (
            "NCOFF\n12 8 0\n" + points.replace("\n", " 51 102 255 255 0 0 1\n") + rows,
            (0.2, 0.4, 1.0),
        ),
        "Geomview's normals and colours": (
            "CNOFF\n12 8 0\n" + points.replace("\n", " 0 0 1 0.2 0.4 1.0\n") + rows,
            (0.2, 0.4, 1.0),
        ),
        "cut off": (f"OFF\n12 8 0\n{points}" + rows[: rows.rstrip().rindex("\n")], "declares 12 vertices and 8 faces"),
        "longer": (f"OFF\n12 8 0\n{points}{rows}3 0 1 2\n", "declares 12 vertices and 8 faces"),
        "four dimensions": (f"4OFF\n12 8 0\n{points}{rows}", "other than three dimensions"),
    }
