"""The contract of a model family: what it reads, how it is pretrained, and how its networks are built.

A family is a folder of this package, or a package of its own with an entry point in the group `ecg_pipeline.families`.
Its module is light, because the asset graph is built from it; its methods import the networks.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.training.recipes import PretrainRecipe

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from ecg_pipeline.storage.shards import ArrayShards
    from ecg_pipeline.training.checkpoints import Checkpoint
    from ecg_pipeline.training.classifier import Classifier
    from ecg_pipeline.training.objective import Objective

IMAGES = "image_shards"
"""Name of the view of rendered ECGs: one image (H, W) uint8 an ECG, 255 = white paper."""

RANDOM = "random initialisation"
"""Where a model without pretrained weights starts from, in words for a table."""

UNKNOWN_LICENCE = "unknown"
"""Licence of published weights of which nobody said under which terms they may be used."""


def check_image_size(image_px: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """RecipeError unless the images of a study are squares of `image_px`. shapes: as in `Family.check`."""
    height_px, width_px = shapes[IMAGES]
    if (height_px, width_px) != (image_px, image_px):
        raise RecipeError(
            f"the model takes images of {image_px} x {image_px} px, but sheets have {height_px} x {width_px} px: "
            "make them equal",
            "image_px",
        )


def windows(name: str) -> str:
    """Name of a view of waveform windows, by its name in the study: (L, T) float32 an example."""
    return f"waveform_windows/{name}"


class ModelRecipe(Protocol):
    """The model section of a study file: a frozen dataclass whose field `family` has one possible value."""

    @property
    def family(self) -> str:
        """Name of the family."""
        ...

    @property
    def view(self) -> str:
        """Name of the view that the network reads."""
        ...

    @property
    def description(self) -> str:
        """The network in words, for a report."""
        ...


class Vectors(Protocol):
    """A network that gives texts and ECGs vectors of one length H, whose dot product says how well they fit."""

    def texts(self, token_ids: "Iterable[Sequence[int]]") -> "NDArray[np.float32]":
        """Token ids of m texts, each without padding -> (m, H)."""
        ...

    def ecgs(self, examples: "NDArray") -> "NDArray[np.float32]":
        """Stored examples (n, ...) of the view that the network reads -> (n, H)."""
        ...


class NoTextEncoder(ValueError):  # noqa: N818
    """A pretrained checkpoint lacks the part of its network that reads texts."""


class Family(ABC):
    """One model family.

    recipe: type of its model section. pretraining: type of the recipe of its own objective; None if it has none.
    targets: site assets that the objective predicts; ECGs without a row of each are left out. fitted: assets without
    partitions that are fitted for the targets, such as a tokenizer; whom they were fitted to is recorded.
    examples_per_ecg: how many examples of an ECG pretraining reads side by side, if it compares them; ECGs with fewer
    are left out. objective_name, sees: what its pretraining is called and what it sees (ECGs, reports, labels), in
    words. licence: of the published weights, in a few words, such as "MIT". The config of `import_weights` may state
    another licence, and another `sees`, of the file that it read.
    leads: of the windows that files of its weights are for, in their order, as a network cannot tell leads apart; empty
    if there are no such files, or if it reads images. A study's window of as many leads must have this order.
    is_explained: whether FullGrad handles its networks; ECGs of others are not explained. second_view: what is shown
    below FullGrad, of networks that have attention: "rollout" of patches of images, or the "attention_curve" of frames
    of waveforms.
    revision: bumped by hand when its networks or its objective give other results.
    """

    recipe: type[Any]
    pretraining: type[PretrainRecipe] | None = None
    targets: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()
    examples_per_ecg: int | None = None
    objective_name: str = ""
    sees: str = ""
    licence: str = UNKNOWN_LICENCE
    leads: tuple[str, ...] = ()
    is_explained: bool = False
    second_view: Literal["rollout", "attention_curve"] | None = None
    revision: int = 0

    def check(self, recipe: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:  # noqa: B027
        """RecipeError if the network cannot read its view. shapes: of an example of each view and target."""

    def check_pretraining(  # noqa: B027
        self, recipe: Any, pretraining: Any, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        """RecipeError if the network cannot be pretrained so. Keys that begin with `model.` are the model's, the others
        the pretraining recipe's."""

    @abstractmethod
    def classifier(self, recipe: Any, start: "Checkpoint | None", *, seed: int) -> "Classifier":
        """A classifier with one label, from a pretrained checkpoint or at random.

        seed: for the weights that `start` lacks.
        """

    def objective(
        self,
        recipe: Any,
        pretraining: Any,
        *,
        arrays: "Mapping[str, Mapping[str, ArrayShards]]",
        fitted: Mapping[str, Path],
        table: "pl.DataFrame",
        seed: int,
    ) -> "Objective":
        """A new network with the objective that pretrains it.

        arrays: the view and the targets, by name and site. fitted: the folders of what was fitted for the targets, by
        name. table: the ECGs to train on, columns ecg_id and site.
        """
        raise NotImplementedError(f"{type(self).__name__} has no pretraining objective")

    def vectors(
        self, recipe: Any, start: "Checkpoint | None", *, vocabulary: int, seed: int, device: str = "cpu"
    ) -> Vectors:
        """The network that compares texts with ECGs, pretrained or, without a checkpoint, random by `seed`.

        vocabulary: number of token ids of the tokenizer of texts. A checkpoint without a text encoder is a
        NoTextEncoder, one that knows fewer token ids another ValueError.
        """
        raise NotImplementedError(f"{type(self).__name__} reads no texts")

    def import_weights(self, file: Path, recipe: Any, out: Path) -> "Checkpoint":
        """Write a published file of weights as a checkpoint to `out`; its config has `origin`, where they come from.

        A file that does not fit the recipe is a ValueError.
        """
        raise NotImplementedError(f"{type(self).__name__} reads no published weights")

    def export_weights(self, checkpoint: "Checkpoint", path: Path) -> Path:
        """Write a pretrained checkpoint as a file that its authors' own scripts load."""
        raise NotImplementedError(f"{type(self).__name__} writes no weights for other scripts")

    @property
    def has_text_vectors(self) -> bool:
        """Whether its pretrained networks compare texts with ECGs, so that they can be tried on prompts."""
        return type(self).vectors is not Family.vectors

    @property
    def has_published_weights(self) -> bool:
        """Whether a published file can be taken over."""
        return type(self).import_weights is not Family.import_weights
