"""XML from untrusted sources: no entities, and a bounded number of elements."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # entities are refused before it sees a text

from kiss3d_cli.geometry.io.numbers import NoNumber, utf8
from kiss3d_cli.geometry.io.source import Source

_DECLARATION = re.compile(rb"^\s*<\?xml[^>]*\?>")  # which names the encoding that the text had
_ELEMENT, _ATTRIBUTE = 160, 120  # bytes in memory, about


def refuse_entities(source: Source, data: bytes) -> None:
    """Raises BadInput for text that declares entities or is not in one byte per ASCII letter."""
    if b"\0" in data or data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise source.unreadable("its XML is not in UTF-8")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise source.refuse("its XML declares a document type or entities, which are never read", "export it again")


def parse_xml(source: Source, data: bytes) -> ET.Element:
    """The tree of an XML text, with the names of its elements without their name space.

    Raises:
        BadInput: it is damaged, declares entities, or is a tree too large for its file.
    """
    try:
        data = _DECLARATION.sub(b"", utf8(data)) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else data
    except NoNumber as error:
        raise source.unreadable(str(error)) from error
    refuse_entities(source, data)
    source.claim(data.count(b"<"), _ELEMENT, "XML elements")
    source.claim(data.count(b"="), _ATTRIBUTE, "XML attributes")
    try:
        root = ET.fromstring(data)  # noqa: S314
    except (ET.ParseError, ValueError, LookupError) as error:
        raise source.unreadable(f"its XML is damaged: {str(error)[:80]}") from error
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return root
