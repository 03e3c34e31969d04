"""3MF (core specification 1.3): one object, in millimetres, as slicers take it."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from jaxtyping import Float, Int

_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_TYPES = """<?xml version="1.0" encoding="UTF-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>
</Types>
"""
_RELATIONS = """<?xml version="1.0" encoding="UTF-8"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Target="/3D/3dmodel.model" Id="model" Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>
</Relationships>
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def threemf(vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"]) -> bytes:
    """A 3MF package.

    The materials of the format are left out: what slicers make of them differs, and none needs them.

    Args:
        vertices: in millimetres, z up; written with nine digits, so that float32 comes back as it was.
        faces: closed, outside out, as the specification wants of a solid (section 4.1).
    """
    points = ('<vertex x="%.9g" y="%.9g" z="%.9g"/>\n' * len(vertices)) % tuple((vertices + 0.0).reshape(-1).tolist())
    triangles = ('<triangle v1="%d" v2="%d" v3="%d"/>\n' * len(faces)) % tuple(faces.reshape(-1).tolist())
    model = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<model unit="millimeter" xml:lang="en-US" xmlns="{_CORE}">\n'
        '<metadata name="Application">kiss3d</metadata>\n<resources>\n<object id="1" type="model">\n<mesh>\n'
        f"<vertices>\n{points}</vertices>\n<triangles>\n{triangles}</triangles>\n</mesh>\n</object>\n</resources>\n"
        '<build>\n<item objectid="1"/>\n</build>\n</model>\n'
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, text in (
            ("[Content_Types].xml", _TYPES),
            ("_rels/.rels", _RELATIONS),
            ("3D/3dmodel.model", model),
        ):
            entry = zipfile.ZipInfo(name, _EPOCH)  # no clock: the same mesh gives the same bytes
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text)
    return packed.getvalue()
