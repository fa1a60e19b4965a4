"""What an asset's results depend on: settings stored in its definition, and their digest, the code version."""

from typing import Any, TypedDict

import dagster as dg

from ecg_pipeline.storage.files import digest_json
from ecg_pipeline.study import identity

RECIPE = "recipe"
"""Key under which an asset's definition carries what its code version hashes."""


class Identified(TypedDict):
    """Arguments of `dg.asset`: the payload that an asset's results depend on, and its digest."""

    code_version: str
    metadata: dict[str, Any]


def identified(revision: int, **recipes: Any) -> Identified:
    """What an asset's results depend on: its module's revision and its part of the study."""
    payload = {"revision": revision, **{name: identity(recipe) for name, recipe in recipes.items()}}
    return {"code_version": digest_json(payload), "metadata": {RECIPE: dg.MetadataValue.json(payload)}}


def payload_of(spec: dg.AssetSpec) -> dict[str, Any]:
    """What an asset's code version digests."""
    return dict(spec.metadata[RECIPE].data)
