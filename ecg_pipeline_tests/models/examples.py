"""The small example of each family: a network, data, and how it is pretrained. A new family needs a row in `ROWS`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from ecg_pipeline.models import FAMILIES
from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.d_beta.network import d_beta_model
from ecg_pipeline.models.d_beta.recipes import NEGATIVES, TEXTS, DBetaPretraining, DBetaRecipe
from ecg_pipeline.models.ecg_fm.network import ecg_fm_model
from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe, SpanMaskRecipe
from ecg_pipeline.models.ecgfounder.network import net1d
from ecg_pipeline.models.ecgfounder.recipes import STATEMENTS, EcgFounderPretraining, EcgFounderRecipe
from ecg_pipeline.models.family import Family
from ecg_pipeline.models.heartbeit.beit import masked_image_model
from ecg_pipeline.models.heartbeit.recipes import TOKENS
from ecg_pipeline.models.load import build_classifier
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.checkpoints import PretrainedModel
from ecg_pipeline.training.pretrain import pretrain
from ecg_pipeline_tests.training.small import (
    SHORT,
    SIDE,
    TINY,
    VOCABULARY,
    bars,
    ink_tokens,
    names,
    table_of,
    write_view,
)

ECGS, SHARDS, SAMPLES = 24, 2, 200


@dataclass(frozen=True, kw_only=True)
class Row:
    """A small example of a family.

    recipe: of a tiny network. examples: labels (n,) -> the n examples of its view; where the family reads several of an
    ECG, those of one stand side by side. pretraining, targets: of a family with an objective, a recipe of a few steps
    with a batch of 9, and the arrays that it predicts by name, with their attributes, from the examples. fitted: writes
    what is fitted for the targets to folders of their names. published: of a family with published weights, a state
    under its official names.
    """

    recipe: Any
    examples: Callable[[NDArray], NDArray]
    pretraining: Any = None
    targets: Callable[[NDArray], Mapping[str, tuple[NDArray, Mapping[str, Any]]]] = lambda examples: {}
    fitted: Callable[[Path], object] = lambda folder: None
    published: Callable[[], Mapping[str, Tensor]] | None = None


def images(labels: NDArray) -> NDArray:
    return bars(labels, np.random.default_rng(1))


def waves(labels: NDArray) -> NDArray:
    """(n, 12, SAMPLES) float32: noise, and of the label a bump."""
    x = np.random.default_rng(1).normal(0, 0.2, (len(labels), 12, SAMPLES)).astype(np.float32)
    x[labels == 1, :, 80:100] += 1
    return x


TINY_WAV2VEC2: dict[str, Any] = {
    "conv_widths": (16, 16, 16),
    "conv_kernels": (2, 2, 2),
    "conv_strides": (2, 2, 2),
    "width": 32,
    "depth": 2,
    "heads": 2,
    "mlp_width": 64,
    "position_kernel": 8,
    "position_groups": 4,
}
"""Sizes of the ECG encoder that ECG-FM and D-BETA share."""

TINY_ECG_FM = EcgFmRecipe(**TINY_WAV2VEC2, codes=8, contrast_width=16)


def statements(examples: NDArray) -> tuple[NDArray, Mapping[str, Any]]:
    """(n, 3) int8: how large the ECG is, what nobody knows of every third, and what is never stated."""
    targets = np.zeros((len(examples), 3), np.int8)
    targets[:, 0] = np.abs(examples).max(axis=(1, 2)) > 1
    targets[:, 1] = np.arange(len(examples)) % 3 - 1
    return targets, {"codes": ["LARGE", "RARELY KNOWN", "NEVER"]}


TINY_FOUNDER = EcgFounderRecipe(
    base_filters=8, widths=(8, 12), blocks=(1, 2), kernel=6, groups_width=4, dropout=0.2, window="windows"
)

TINY_D_BETA = DBetaRecipe(
    leads="mimic",
    **TINY_WAV2VEC2,
    text_width=24,
    text_depth=2,
    text_heads=2,
    text_head_width=8,
    text_mlp_width=32,
    joint_width=24,
    joint_heads=2,
    joint_depth=2,
    reconstruct_after=1,
    decoder_width=16,
    decoder_heads=2,
    decoder_depth=1,
)
SAID = np.array([[3, 4, 5, 1, 0, 0], [6, 7, 1, 0, 0, 0], [8, 4, 7, 9, 10, 1]], np.int32)
"""Three texts as tokens: 0 is padding, 1 the end, 2 the mask."""


def said(examples: NDArray) -> tuple[NDArray, Mapping[str, Any]]:
    """(n, 2 + 6) int32: text 0 or 1 by how large the ECG is, and text 2 of every fifth."""
    ids = np.where(np.arange(len(examples)) % 5 == 4, 2, np.abs(examples).max(axis=(1, 2)) > 1)
    rows = np.concatenate([ids[:, None], (SAID != 0).sum(axis=1)[ids][:, None], SAID[ids]], axis=1)
    return rows.astype(np.int32), {"vocabulary": 11, "pad": 0, "mask": 2, "special": [0, 1, 2]}


def write_negatives(folder: Path) -> None:
    """Each text's least similar ones; the last has none."""
    negatives = np.array([[1, 2], [0, -1], [-1, -1]], np.int32)
    arrays = {"negatives": negatives, "token_ids": SAID, "lengths": (SAID != 0).sum(axis=1).astype(np.int32)}
    (folder / NEGATIVES).mkdir()
    save_file(arrays, folder / NEGATIVES / "texts.safetensors")


ROWS = {
    "heartbeit": Row(
        recipe=replace(TINY, drop_path=0.3),
        examples=images,
        pretraining=replace(SHORT, epochs=3, batch=9),
        targets=lambda examples: {TOKENS: (ink_tokens(examples), {"vocabulary": VOCABULARY})},
        published=lambda: masked_image_model(TINY, vocabulary=VOCABULARY, seed=5).official_state(),
    ),
    "timm": Row(
        recipe=TimmRecipe(name="test_resnet", image_px=SIDE),
        examples=images,
        published=lambda: timm.create_model("test_resnet").state_dict(),
    ),
    "small_cnn": Row(recipe=SmallCnnRecipe(widths=(8, 16), kernel=5), examples=waves),
    "ecg_fm": Row(
        recipe=TINY_ECG_FM,
        examples=waves,
        pretraining=EcgFmPretraining(
            epochs=2, batch=9, learning_rate=1e-3, pairs=2, mask=SpanMaskRecipe(length=3), negatives=10
        ),
        published=lambda: ecg_fm_model(TINY_ECG_FM, EcgFmPretraining(), seed=5).state_dict(),
    ),
    "ecgfounder": Row(
        recipe=TINY_FOUNDER,
        examples=waves,
        pretraining=EcgFounderPretraining(epochs=3, batch=9, learning_rate=3e-3),
        targets=lambda examples: {STATEMENTS: statements(examples)},
        published=lambda: net1d(TINY_FOUNDER, labels=5, seed=5).state_dict(),
    ),
    "d_beta": Row(
        recipe=TINY_D_BETA,
        examples=waves,
        pretraining=DBetaPretraining(
            epochs=2, batch=9, learning_rate=1e-3, warmup_epochs=0, group=4, equal_reports="ignored"
        ),
        targets=lambda examples: {TEXTS: said(examples)},
        fitted=write_negatives,
        published=lambda: d_beta_model(TINY_D_BETA, vocabulary=11, rate=0.0, seed=5).state_dict(),
    ),
}


@dataclass(frozen=True)
class Example:
    """A family with its row and a small data set in `folder`."""

    family: Family
    row: Row
    folder: Path

    @property
    def view(self) -> dict[str, ArrayShards]:
        return {"s": ArrayShards(self.folder / "view")}

    @property
    def stored(self) -> NDArray:
        """All examples, in the order of the table."""
        view = self.view["s"]
        return np.concatenate([view.read(shard) for shard in view.shards()])

    @property
    def table(self) -> pl.DataFrame:
        return table_of(self.view["s"].index()["ecg_id"].unique(maintain_order=True).to_list(), labels().tolist())

    @property
    def together(self) -> int:
        """How many examples of an ECG the view has."""
        return self.family.examples_per_ecg or 1

    @property
    def batches(self) -> Batches:
        """What pretraining reads."""
        return Batches(arrays=self.arrays, table=self.table, per_ecg=self.family.examples_per_ecg)

    @property
    def arrays(self) -> dict[str, dict[str, ArrayShards]]:
        """The view and the targets."""
        targets = {name: {"s": ArrayShards(self.folder / name)} for name in self.family.targets}
        return {self.row.recipe.view: self.view, **targets}

    @property
    def fitted(self) -> dict[str, Path]:
        """The folders of what is fitted for the targets."""
        return {name: self.folder / name for name in self.family.fitted}

    def objective(self, seed: int) -> Any:
        return self.family.objective(
            self.row.recipe, self.row.pretraining, arrays=self.arrays, fitted=self.fitted, table=self.table, seed=seed
        )

    def classifier(self, seed: int = 0, start: Any = None) -> Any:
        return build_classifier(self.row.recipe, start, seed=seed)

    def pretrained(self, out: Path, **options: Any) -> PretrainedModel:
        torch.set_num_threads(1)
        return pretrain(
            self.objective,
            self.row.pretraining,
            batches=self.batches,
            facts={"model": asdict(self.row.recipe), "origin": self.family.objective_name},
            out=out,
            **options,
        )


def labels() -> NDArray:
    return np.arange(ECGS) % 2


def example_of(name: str, folder: Path) -> Example:
    """The example of a family, whose data set lies in `folder`. A family without a row fails."""
    if name not in ROWS:
        pytest.fail(f"the family `{name}` has no row in ROWS: add a small recipe, and these tests run for it")
    return Example(FAMILIES[name], ROWS[name], folder)


def write_example(name: str, folder: Path) -> Example:
    """Write the data set of a family's example to a folder."""
    made = example_of(name, folder)
    examples = made.row.examples(labels().repeat(made.together))
    ecg_ids = np.repeat(names(SHARDS, ECGS // SHARDS), made.together)
    write_view(made.folder / "view", np.split(examples, SHARDS), ecg_ids)
    for name, (array, attributes) in made.row.targets(examples).items():
        write_view(made.folder / name, np.split(array, SHARDS), **attributes)
    made.row.fitted(made.folder)
    return made


def of_families(condition: Callable[[Family], bool]):
    """A test of those families alone that a condition holds for."""
    names = [name for name, family in FAMILIES.items() if condition(family)]
    return pytest.mark.parametrize("example", names, indirect=True)


PRETRAINED = [name for name, family in FAMILIES.items() if family.pretraining is not None]
of_pretrained_families = pytest.mark.parametrize("example", PRETRAINED, indirect=True)


def perturbed(classifier):
    """A classifier in eval mode whose weights are all other than at the start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return classifier.eval()


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
