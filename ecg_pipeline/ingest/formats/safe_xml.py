"""Parsing XML from unknown sources: no entities, no network, no other file."""

import re

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from ecg_pipeline.ingest.rejects import Rejected, RejectReason

_ENCODINGS = {b"", b"utf-8", b"us-ascii", b"ascii", b"iso-8859-1", b"latin1", b"windows-1252"}
_ENCODING = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)[\"']")
_DECLARED_ENTITY = re.compile(rb"<!\s*(?:ENTITY|ATTLIST|ELEMENT|NOTATION)", re.I)


def check_xml(content: bytes) -> None:
    """Reject content that is empty, in an encoding in which the next check could be evaded, or declares entities."""
    if not content.strip():
        raise Rejected(RejectReason.EMPTY_FILE)
    declared = _ENCODING.match(content)
    if b"\0" in content[:4096] or (declared and declared[1].lower() not in _ENCODINGS):
        raise Rejected(RejectReason.UNREADABLE, "not in an encoding that is read")
    if _DECLARED_ENTITY.search(content):
        raise Rejected(RejectReason.FORBIDDEN_XML, "the file declares entities")


def parse_xml(content: bytes) -> etree._Element | None:
    """The root element of content that `check_xml` has passed; None if it is not well-formed.

    A DTD that it names is not read. Parsed elements take about a hundred bytes each: limit their number before.
    """
    # A new parser for each document: lxml's parsers keep all names they have seen in memory.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError:
        return None
