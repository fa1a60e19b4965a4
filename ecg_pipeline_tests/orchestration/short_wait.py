"""The active study's definitions for a code server of a test: a young file is looked at again after 20 s, not 60."""

from ecg_pipeline.definitions import defs
from ecg_pipeline.orchestration.assets import ingest as records

__all__ = ["defs"]

records.SETTLE_S = 20.0
