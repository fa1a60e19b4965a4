"""Metadata of an output as JSON, so that what was shown when it was made can be shown again without reading it."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

Metadata = Mapping[str, Any]


def as_json(metadata: Metadata) -> dict[str, list[Any]]:
    """Metadata as JSON: by name a kind and a content. A TypeError if a value is of a kind that is not known here."""
    return {name: _as_json(name, value) for name, value in metadata.items()}


def from_json(stored: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The metadata that `as_json` stored."""
    return {name: _MAKE[kind](content) for name, (kind, content) in stored.items()}


def _as_json(name: str, value: Any) -> list[Any]:
    match value:
        case None | bool() | int() | float() | str():
            return ["plain", value]
        case list() | dict():
            return ["json", value]
        case dg.UrlMetadataValue():
            return ["url", value.url]
        case dg.PathMetadataValue():
            return ["path", value.path]
        case dg.MarkdownMetadataValue():
            return ["markdown", value.md_str]
        case dg.JsonMetadataValue():
            return ["json", value.data]
        case dg.TableMetadataValue():
            return ["table", [dict(record.data) for record in value.records]]
        case _:
            raise TypeError(f"metadata {name}: {type(value).__name__} cannot be stored")


_MAKE = {
    "plain": lambda content: content,
    "url": dg.MetadataValue.url,
    "path": dg.MetadataValue.path,
    "markdown": dg.MetadataValue.md,
    "json": dg.MetadataValue.json,
    "table": lambda content: dg.MetadataValue.table([dg.TableRecord(row) for row in content]),
}
