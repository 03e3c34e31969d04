"""The colours of a glTF primitive: baseColorFactor times texture times COLOR_0, in linear light (section 3.9.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.io.gltf.document import Document
from kiss3d_cli.geometry.io.gltf.primitives import Primitive
from kiss3d_cli.geometry.io.picture import CLAMP, MIRROR, REPEAT, NoPicture, Picture, encoded, open_picture

_WRAPS = {33071: CLAMP, 33648: MIRROR, 10497: REPEAT}
_NEAREST = 9728
_IMAGE_EXTENSIONS = ("EXT_texture_webp", "EXT_texture_avif", "MSFT_texture_dds")
_KEPT_PIXELS = 8192 * 8192


class Painter:
    """Gives primitives their colours; a texture that can't be read is noted, and nothing gets colours then."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.complete = True
        self._pictures: dict[int, UInt8[np.ndarray, "H W 3"]] = {}

    def colors(self, primitive: Primitive) -> Float[np.ndarray, "N 3"] | None:
        """sRGB-encoded colours of the vertices; None if nothing says any.

        Without `Source.textures` only colours of vertices count, times the material's factor.
        """
        document, count = self.document, len(primitive.positions)
        given = primitive.attributes.get("COLOR_0")
        material = {} if primitive.material is None else document.entry("materials", primitive.material)
        if material.get("alphaMode", "OPAQUE") != "OPAQUE":
            document.source.note("it has transparent materials, which are taken as opaque")
        if given is None and (not document.source.textures or not self.complete):
            return None
        factor, texture = self._base(material)
        if given is None and factor is None and texture is None:
            return None
        linear = np.ones((count, 3)) if factor is None else np.tile(factor, (count, 1))
        if given is not None:
            if given.shape[1] not in (3, 4):
                raise document.wrong("COLOR_0 is not three or four numbers")
            linear = linear * given[:, :3].astype(np.float64).clip(0, 1)
        if texture is not None and document.source.textures:
            try:
                linear = linear * self._textured(texture, primitive)
            except (NoPicture, BadInput) as error:
                reason = error.cause if isinstance(error, BadInput) else f"a texture {error}"
                document.source.note(f"{reason}; the mesh is taken without colours")
                self.complete = False
                return None
        return encoded(linear)

    def picture(self, primitive: Primitive) -> UInt8[np.ndarray, "H W 3"] | None:
        """The texture of its base colour as it is, row 0 on top, sRGB-encoded; None without one.

        Raises:
            NoPicture: it can't be read.
        """
        if primitive.material is None:
            return None
        texture = self._base(self.document.entry("materials", primitive.material))[1]
        return None if texture is None else self._pixels(self.document.entry("textures", texture.get("index")))

    def _base(self, material: dict[str, Any]) -> tuple[Float[np.ndarray, " 3"] | None, dict[str, Any] | None]:
        """Factor and texture of the surface's own colour."""
        document = self.document
        old = document.extension(material, "KHR_materials_pbrSpecularGlossiness")
        base = document.object(material, "pbrMetallicRoughness") if old is None else old
        factor, texture = (
            ("baseColorFactor", "baseColorTexture") if old is None else ("diffuseFactor", "diffuseTexture")
        )
        value = document.numbers(base, factor, [1.0] * 4)[:3].clip(0, 1) if factor in base else None
        return value, document.object(base, texture) if texture in base else None

    def _textured(self, info: dict[str, Any], primitive: Primitive) -> Float[np.ndarray, "N 3"]:
        """Linear light of a texture at the vertices."""
        document = self.document
        texture = document.entry("textures", info.get("index"))
        transform = document.extension(info, "KHR_texture_transform")
        channel = document.integer(info, "texCoord", 0)
        if transform is not None:
            channel = document.integer(transform, "texCoord", channel)
        uv = primitive.attributes.get(f"TEXCOORD_{channel}")
        if uv is None or uv.shape[1] != 2:
            raise NoPicture(f"has no texture coordinates (TEXCOORD_{channel})")
        uv = uv.astype(np.float64)
        if transform is not None:
            uv = self._transformed(uv, transform)
        sampler = document.entry("samplers", texture["sampler"]) if "sampler" in texture else {}
        wrap = tuple(_WRAPS.get(document.integer(sampler, name, 10497), REPEAT) for name in ("wrapS", "wrapT"))
        picture = Picture(self._pixels(texture), (wrap[0], wrap[1]), sampler.get("magFilter") == _NEAREST)
        return picture.linear(uv)

    def _transformed(self, uv: Float[np.ndarray, "N 2"], transform: dict[str, Any]) -> Float[np.ndarray, "N 2"]:
        """Scale, then rotation, then offset (KHR_texture_transform).

        Counter-clockwise as one sees the picture, v being downwards: as in Khronos' viewer and test model, in Blender
        and in three.js; the matrix in the extension's text is written the other way round.
        """
        offset = self.document.numbers(transform, "offset", [0.0, 0.0])
        scale = self.document.numbers(transform, "scale", [1.0, 1.0])
        (angle,) = self.document.numbers({"rotation": [transform.get("rotation", 0.0)]}, "rotation", [0.0])
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return (uv * scale) @ turn.T + offset

    def _pixels(self, texture: dict[str, Any]) -> UInt8[np.ndarray, "H W 3"]:
        document = self.document
        index = texture.get("source")
        for name in _IMAGE_EXTENSIONS:
            extension = document.extension(texture, name)
            index = index if extension is None else extension.get("source", index)
        if index is None and document.extension(texture, "KHR_texture_basisu") is not None:
            raise NoPicture("is in KTX2 (KHR_texture_basisu), which kiss3d does not read: export it with PNG or JPEG")
        image = document.entry("images", index)
        assert isinstance(index, int)
        if index not in self._pictures:
            if isinstance(image.get("uri"), str):
                data = document.resource(image["uri"])
            else:
                data = bytes(document.view(image.get("bufferView"))[0])
            pixels = open_picture(data)
            if sum(other[..., 0].size for other in self._pictures.values()) + pixels[..., 0].size > _KEPT_PIXELS:
                self._pictures.clear()
            self._pictures[index] = pixels
        return self._pictures[index]
