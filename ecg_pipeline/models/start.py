"""Where a model's weights came from before they were fitted to a task, in the words of tables, cards and tags."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ecg_pipeline.models.family import RANDOM, UNKNOWN_LICENCE

FROZEN = "frozen encoder, logistic regression"
"""How a model is fitted whose encoder keeps the weights that it starts from."""

START_WORDS = ("weights", "pretraining_saw", "licence", "fitting")
"""Names of what `start_words` says."""

SHOWN_DIGITS = 12
"""Digits of a file's digest in a table; the config has all."""


@dataclass(frozen=True)
class Start:
    """What a model starts from.

    objective, seeds: of a pretraining here. file, sha256, licence: of a published file. Without either, the weights are
    random. sees: what the pretraining saw, in words (ECGs, labels, reports). labels: what a pretraining on labels
    predicted, each as `system:code`, or as the bare name that a published file gives it.
    """

    objective: str = ""
    seeds: tuple[int, ...] = ()
    file: str = ""
    sha256: str = ""
    sees: str = ""
    licence: str = ""
    labels: tuple[str, ...] = ()

    @property
    def is_random(self) -> bool:
        """Whether nothing was pretrained."""
        return not (self.objective or self.file)

    @property
    def saw_labels(self) -> bool:
        """Whether the pretraining predicted labels; which ones may be unknown."""
        return bool(self.labels) or "labels" in self.sees

    @property
    def weights(self) -> str:
        """Where the weights came from."""
        if self.file:
            digest = f", SHA-256 {self.sha256[:SHOWN_DIGITS]}" if self.sha256 else ""
            return f"published file {self.file}{digest}"
        if not self.objective:
            return RANDOM
        seeds = ", ".join(map(str, self.seeds))
        return f"{self.objective}, seed{'s' if len(self.seeds) > 1 else ''} {seeds}" if seeds else self.objective

    @property
    def saw(self) -> str:
        """What the pretraining saw, with the number of labels where it is known."""
        return self.sees.replace("labels", f"{len(self.labels)} labels") if self.labels else self.sees


def start_of(config: Mapping[str, Any]) -> Start:
    """What a pretrained or a fine-tuned model starts from, by its config; older configs say less."""
    if "start" in config:
        stated = config["start"]
        return Start(**{**stated, "seeds": tuple(stated["seeds"]), "labels": tuple(stated["labels"])})
    if "imported" in config:
        return Start(
            file=config["imported"],
            sha256=config.get("sha256", ""),
            sees=config.get("sees", ""),
            licence=config.get("licence", UNKNOWN_LICENCE),
            labels=tuple(config.get("labels", ())),
        )
    if "origin" in config:
        seeds = config.get("pretraining", {}).get("seeds", ())
        return Start(objective=config["origin"], seeds=tuple(seeds), sees=config.get("sees", ""))
    origin = config.get("initialisation", RANDOM)
    return Start() if origin == RANDOM else Start(objective=origin)


def start_facts(config: Mapping[str, Any], checkpoints: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the config of a fine-tuned model states of its start.

    config: of the pretrained model. checkpoints: the configs of its checkpoints, which may name the `labels`: texts, or
    pairs of system and code.
    """
    named = (label for one in checkpoints for label in one.get("labels", ()))
    labels = dict.fromkeys(label if isinstance(label, str) else ":".join(label) for label in named)
    return asdict(start_of(config)) | {"labels": list(labels)}


def start_words(config: Mapping[str, Any]) -> dict[str, str]:
    """What tables, tags and cards say of a model, by the names of `START_WORDS`; what does not apply is left out."""
    start = start_of(config)
    fitting = FROZEN if "c" in config.get("finetuning", {}) else ""
    words = dict(zip(START_WORDS, (start.weights, start.saw, start.licence, fitting), strict=True))
    return {name: text for name, text in words.items() if text}


def is_model(config: Mapping[str, Any]) -> bool:
    """Whether a config is that of a pretrained or a fine-tuned model."""
    return "origin" in config or "initialisation" in config
