"""Source assets of published weights files, versioned by their digests."""

import os
from pathlib import Path

import dagster as dg

from ecg_pipeline.storage.files import sha256_file
from ecg_pipeline.study import Study
from ecg_pipeline.texts.tokenizer import ENCODER, FILE
from ecg_pipeline.tokens.recipes import ImportedTokenizer

T5_FILES = {"text_tokenizer": FILE, **dict(zip(("text_encoder_config", "text_encoder"), ENCODER, strict=True))}
"""What is used of a T5's folder, by the names of the source assets."""


def weights_file(name: str) -> Path:
    """A local weights file that the study names, below `ECG_WEIGHTS` (by default ./weights)."""
    path = Path(os.environ.get("ECG_WEIGHTS") or "weights") / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the study names these weights; put them there, or set ECG_WEIGHTS")
    return path


def published_names(study: Study) -> dict[str, str]:
    """The weights file of each model, tokenizer and encoder of texts that is taken over from one."""
    named = {model: section.weights for model, section in study.pretraining.items() if section.weights}
    if isinstance(study.tokenizer, ImportedTokenizer) and "image_tokenizer" in study.fitted:
        named["image_tokenizer"] = study.tokenizer.weights
    if study.takes_text_tokenizer:
        named |= {name: f"{study.texts.t5}/{file}" for name, file in T5_FILES.items()}
    return named


def published_key(name: str) -> dg.AssetKey:
    """Key of the source asset of a model's published weights."""
    return dg.AssetKey(["published", name])


def published_version(study: Study, name: str) -> str:
    """The data version of published weights: the file's digest."""
    return sha256_file(weights_file(published_names(study)[name]))


def published_assets(study: Study) -> list[dg.SourceAsset]:
    """Source assets `published/{name}`."""

    def source(name: str) -> dg.SourceAsset:
        @dg.observable_source_asset(key=published_key(name), group_name="published")
        def published() -> dg.DataVersion:
            """Published weights, versioned by their file's digest."""
            return dg.DataVersion(published_version(study, name))

        return published

    return [source(name) for name in published_names(study)]
