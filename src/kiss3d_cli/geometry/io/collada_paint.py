"""The colours of a COLLADA mesh: of its corners, else its material's diffuse colour or texture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.io.collada_mesh import ColladaMesh
from kiss3d_cli.geometry.io.part import Part, by_corner
from kiss3d_cli.geometry.io.picture import NoPicture, Picture, encoded, open_picture

if TYPE_CHECKING:
    from kiss3d_cli.geometry.io.collada import Collada


class Paint:
    """What one instance of a geometry binds to the symbols of its materials."""

    def __init__(self, document: Collada, instance: ET.Element) -> None:
        self.document = document
        bound = instance.findall("bind_material/technique_common/instance_material")
        self.bound = {str(entry.get("symbol")): entry for entry in bound}

    def painted(self, mesh: ColladaMesh) -> Part:
        """The mesh with its colours; without, and with a note, if one can't be told."""
        start, colors = 0, np.full((len(mesh.faces), 3, 3), np.nan)
        try:
            for symbol, count, uvs, own in mesh.groups:
                rows = slice(start, start + count)
                start += count
                if own is not None and own.shape[2] >= 3:
                    colors[rows] = own[..., :3].clip(0, 1)
                else:
                    colors[rows] = self._of_material(symbol, uvs, count)
        except (NoPicture, BadInput) as error:
            reason = error.cause if isinstance(error, BadInput) else f"a texture {error}"
            self.document.source.note(f"{reason}; the mesh is taken without colours")
            return Part(mesh.vertices, mesh.faces)
        if np.isnan(colors).all():
            return Part(mesh.vertices, mesh.faces)
        return by_corner(Part(mesh.vertices, mesh.faces), np.where(np.isnan(colors), 1.0, colors))

    def _of_material(self, symbol: str, uvs: dict[int, np.ndarray], count: int) -> Float[np.ndarray, "f 3 3"]:
        document, nothing = self.document, np.full((count, 3, 3), np.nan)
        bound = self.bound.get(symbol)
        if bound is None:
            return nothing
        link = document.target(bound.get("target"), "material").find("instance_effect")
        effect = None if link is None else document.target(link.get("url"), "effect")
        diffuse = None if effect is None else effect.find("profile_COMMON/technique/*/diffuse")
        if effect is None or diffuse is None:
            return nothing
        color, texture = diffuse.find("color"), diffuse.find("texture")
        if color is not None:
            return np.broadcast_to(document.numbers(color, 4)[:3].clip(0, 1), (count, 3, 3))
        if texture is None:
            return nothing
        uv = uvs.get(self._set(bound, texture.get("texcoord", "")), next(iter(uvs.values()), None))
        if uv is None or uv.shape[2] < 2:
            raise NoPicture("has no texture coordinates")
        picture = Picture(open_picture(document.source.beside(self._file(effect, texture), percent=True)))
        upright = uv[..., :2].reshape(-1, 2) * [1, -1] + [0, 1]
        return encoded(picture.linear(upright)).reshape(count, 3, 3)

    def _set(self, bound: ET.Element, name: str) -> int:
        for entry in bound.findall("bind_vertex_input"):
            if entry.get("semantic") == name and entry.get("input_set", "").isdecimal():
                return int(entry.get("input_set", ""))
        return 0

    def _file(self, effect: ET.Element, texture: ET.Element) -> str:
        """From sampler to surface to image to file (1.4.1), or from sampler to image (1.5)."""
        document = self.document
        params = {str(entry.get("sid")): entry for entry in effect.iter("newparam")}
        name = texture.get("texture", "")
        sampler = params.get(name)
        if sampler is not None:
            instance = sampler.find(".//instance_image")
            if instance is not None:
                name = instance.get("url", "").removeprefix("#")
            else:
                surface = params.get((sampler.findtext(".//source") or "").strip())
                name = "" if surface is None else (surface.findtext(".//init_from") or "").strip()
        image = document.target(f"#{name}", "image")
        file = image.findtext("init_from") or image.findtext("init_from/ref") or ""
        if not file.strip():
            raise NoPicture("names no file")
        return file.strip().removeprefix("./")
