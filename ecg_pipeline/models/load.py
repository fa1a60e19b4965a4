"""Classifiers of every family, from recipes and from checkpoints."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ecg_pipeline.models import FAMILIES
from ecg_pipeline.models.family import RANDOM, Family, ModelRecipe
from ecg_pipeline.models.start import start_facts
from ecg_pipeline.training.checkpoints import Checkpoint, PretrainedModel

if TYPE_CHECKING:
    from ecg_pipeline.training.classifier import Classifier


def family_of(recipe: ModelRecipe) -> Family:
    """The family of a model."""
    return FAMILIES[recipe.family]


def build_classifier(recipe: ModelRecipe, start: Checkpoint | None, *, seed: int) -> "Classifier":
    """A classifier to fine-tune, from a pretrained checkpoint or randomly initialised."""
    return family_of(recipe).classifier(recipe, start, seed=seed)


def classifier_facts(recipe: ModelRecipe, start: PretrainedModel | None, seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """The config of a classifier: its recipe, which `load_classifier` reads, and where its weights came from.

    Of a pretrained model also which of its checkpoints each seed of fine-tuning starts from, and, as in `Start`, what
    its pretraining saw and the licence of weights that were taken over.
    """
    facts: dict[str, Any] = {"model": asdict(recipe)}  # type: ignore[call-overload]
    if start is None:
        return facts | {"initialisation": RANDOM}
    return facts | {
        "initialisation": start.config()["origin"],
        "started_from": {str(seed): start.start(seed).folder.name for seed in seeds},
        "start": start_facts(start.config(), [one.config() for one in start.checkpoints()]),
    }


def load_classifier(checkpoint: Checkpoint) -> "Classifier":
    """Load the classifier of a checkpoint, in eval mode. An unknown family is a ValueError."""
    from ecg_pipeline.training.weights import load_exactly

    values = dict(checkpoint.config()["model"])
    if values["family"] not in FAMILIES:
        raise ValueError(f"{checkpoint.folder}: no family `{values['family']}`; there are {', '.join(FAMILIES)}")
    classifier = build_classifier(recipe_from(values), None, seed=0)
    load_exactly(classifier, checkpoint.state())
    return classifier.eval()


def recipe_from(values: dict[str, Any]) -> ModelRecipe:
    """A model recipe from its values as JSON, which has lists for tuples."""
    kind = FAMILIES[values["family"]].recipe
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
