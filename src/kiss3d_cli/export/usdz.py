"""USDZ, as phones and AR viewers take it: one mesh with a preview material, through Pixar's own library."""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.export.model import Model
from kiss3d_cli.geometry.io.gltf.write import unit_normals


def usdz(model: Model) -> bytes:
    """A USDZ package, y up, in metres.

    Args:
        model: in metres.

    Raises:
        Missing: usd-core.
    """
    if find_spec("pxr") is None:
        raise Missing(
            "usd-core, which writes USDZ, is not installed", place="--to ar", hint="pip install 'kiss3d[export]'"
        )
    from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, UsdUtils, Vt

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage = Usd.Stage.CreateNew(str(folder / "model.usdc"))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        root = UsdGeom.Xform.Define(stage, "/model")
        stage.SetDefaultPrim(root.GetPrim())
        shape = UsdGeom.Mesh.Define(stage, "/model/mesh")
        vertices = model.mesh.vertices.float().numpy()
        faces = model.mesh.faces.numpy()
        shape.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(vertices)))
        shape.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(faces), 3, np.int32)))
        shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(faces.reshape(-1).astype(np.int32)))
        shape.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(unit_normals(model.mesh).astype(np.float32)))
        shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
        shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        low, high = vertices.min(0), vertices.max(0)
        shape.CreateExtentAttr(Vt.Vec3fArray([Gf.Vec3f(*low.tolist()), Gf.Vec3f(*high.tolist())]))
        material = UsdShade.Material.Define(stage, "/model/material")
        surface = UsdShade.Shader.Define(stage, "/model/material/surface")
        surface.CreateIdAttr("UsdPreviewSurface")
        surface.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(0.0)
        surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(float(model.roughness))
        material.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
        color = surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
        if model.texture is not None:
            places = model.texture.uv.double().numpy() * [1, -1] + [0, 1]  # USD has v upwards
            where = UsdGeom.PrimvarsAPI(shape).CreatePrimvar(
                "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying
            )
            where.Set(Vt.Vec2fArray.FromNumpy(places.astype(np.float32)))
            where.SetIndices(Vt.IntArray.FromNumpy(model.texture.corners.numpy().reshape(-1).astype(np.int32)))
            reader = UsdShade.Shader.Define(stage, "/model/material/st")
            reader.CreateIdAttr("UsdPrimvarReader_float2")
            reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
            out = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
            pictures = {"diffuse": (model.texture.image, "sRGB", color)}
            if model.normal_map is not None:
                normal = surface.CreateInput("normal", Sdf.ValueTypeNames.Normal3f)
                pictures["normal"] = (model.normal_map, "raw", normal)
            for title, (pixels, space, target) in pictures.items():
                (folder / f"{title}.png").write_bytes(_png(pixels))
                shader = UsdShade.Shader.Define(stage, f"/model/material/{title}")
                shader.CreateIdAttr("UsdUVTexture")
                shader.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(f"{title}.png")
                shader.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set(space)
                for side in ("wrapS", "wrapT"):
                    shader.CreateInput(side, Sdf.ValueTypeNames.Token).Set("clamp")
                if title == "normal":  # bytes are 2 n - 1, as the checker wants it
                    shader.CreateInput("scale", Sdf.ValueTypeNames.Float4).Set(Gf.Vec4f(2, 2, 2, 1))
                    shader.CreateInput("bias", Sdf.ValueTypeNames.Float4).Set(Gf.Vec4f(-1, -1, -1, 0))
                shader.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(out)
                target.ConnectToSource(shader.CreateOutput("rgb", Sdf.ValueTypeNames.Float3))
        elif model.mesh.colors is not None:
            from kiss3d_cli.core.color_space import srgb_to_linear

            linear = srgb_to_linear(model.mesh.colors.double().clamp(0, 1).numpy()).astype(np.float32)
            shown = shape.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
            shown.Set(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(linear)))
            reader = UsdShade.Shader.Define(stage, "/model/material/color")
            reader.CreateIdAttr("UsdPrimvarReader_float3")
            reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("displayColor")
            color.ConnectToSource(reader.CreateOutput("result", Sdf.ValueTypeNames.Float3))
        else:
            color.Set(Gf.Vec3f(0.6, 0.6, 0.6))
        UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)
        stage.Save()
        packed = folder / "model.usdz"
        UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(folder / "model.usdc")), str(packed))
        return _undated(packed.read_bytes())


def _undated(package: bytes) -> bytes:
    """A ZIP archive whose members are all of 1980-01-01, so that the same model gives the same bytes at any time.

    In place, in both of an entry's headers (APPNOTE 4.3.7, 4.3.12): USDZ wants its members aligned.
    """
    data, stamp = bytearray(package), struct.pack("<HH", 0, 1 << 5 | 1)
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        entries, central = archive.infolist(), archive.start_dir
    for entry in entries:
        data[entry.header_offset + 10 : entry.header_offset + 14] = stamp
        data[central + 12 : central + 16] = stamp
        lengths = struct.unpack_from("<HHH", package, central + 28)  # of name, extra field and comment
        central += 46 + sum(lengths)
    return bytes(data)


def _png(pixels: UInt8[Tensor, "H W 3"]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(data, "PNG", compress_level=6)
    return data.getvalue()
