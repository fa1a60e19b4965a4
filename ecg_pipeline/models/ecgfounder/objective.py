"""Supervised pretraining on statements: multi-label classification in which unknown labels count nothing.

The paper's loss, schedule and augmentation are not published; this is binary cross entropy, and the augmentation of
`lead_one`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ecg_pipeline.models.ecgfounder.lead_one import lead_one, sample_axes
from ecg_pipeline.models.ecgfounder.network import Net1D, net1d
from ecg_pipeline.models.ecgfounder.recipes import STATEMENTS, EcgFounderPretraining, EcgFounderRecipe
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.loop import step_seed
from ecg_pipeline.training.schedules import decay_groups

DROPOUT_GROUP = 8
"""Examples that share a draw of dropout: they go through the network together, however a batch is divided."""


@dataclass(frozen=True, kw_only=True)
class StatedEcgs:
    """The ECGs of a batch that go through the network at once.

    x (B, L, T) float32, the network's input; targets (B, K) int8: 1 stated, 0 not stated, -1 unknown. dropout_seed: of
    torch's global generator for this micro-batch.
    """

    x: Tensor
    targets: Tensor
    dropout_seed: int


@dataclass(frozen=True, kw_only=True)
class StatementObjective:
    """Statements of ECGs as a `training.objective.Objective`. labels: what each of the K targets states."""

    network: Net1D
    recipe: EcgFounderRecipe
    pretraining: EcgFounderPretraining
    labels: tuple[str, ...]
    seed: int
    group: int = 1

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Weight decay for matrices and kernels alone; batch norms without a gradient are left out."""
        return decay_groups(self.network, weight_decay)

    def micro_batch(self, arrays: Mapping[str, NDArray], places: range, *, step: int, device: str) -> StatedEcgs:
        """Windows and targets at some places of a batch, lead I with another axis for each."""
        batch, chosen = len(arrays[STATEMENTS]), slice(places.start, places.stop)
        # Drawn for the whole batch, so that what an example gets does not depend on how the batch is divided.
        generator = torch.Generator().manual_seed(step_seed(self.seed, step=step))
        dropout_seeds = torch.randint(2**62, (batch,), generator=generator)
        x = torch.from_numpy(arrays[self.recipe.view][chosen]).to(device, non_blocking=True)
        if self.recipe.leads == 1:
            inverted, turn_degrees = self.pretraining.inverted, self.pretraining.turn_degrees
            axes = sample_axes(batch, inverted=inverted, turn_degrees=turn_degrees, generator=generator)
            angles, signs = (values[chosen].to(device) for values in axes)
            x = lead_one(x, angles=angles, signs=signs)
        targets = torch.from_numpy(arrays[STATEMENTS][chosen]).to(device, non_blocking=True)
        return StatedEcgs(x=x, targets=targets, dropout_seed=int(dropout_seeds[places.start]))

    def count(self, micro_batch: StatedEcgs) -> Tensor:
        """How often each label is known not to be stated, and to be stated, (2, K)."""
        return torch.stack([(micro_batch.targets == value).sum(dim=0) for value in (0, 1)])

    def backward(self, network: nn.Module, micro_batch: StatedEcgs, *, weight: float) -> Tensor:
        """Accumulate the gradient of `weight` times the summed binary cross entropy of all known labels.

        Returns (4,): the unweighted sum, and of the known labels the numbers that are stated, that are stated and
        predicted, and that are neither.
        """
        targets = micro_batch.targets
        if self.recipe.dropout:
            torch.manual_seed(micro_batch.dropout_seed)
        with torch.autocast(targets.device.type, torch.bfloat16, enabled=targets.device.type != "cpu"):
            logits = network(micro_batch.x).float()
        is_stated, is_known, predicted = targets == 1, targets >= 0, logits > 0
        loss = binary_cross_entropy_with_logits(logits, is_stated.float(), is_known.float(), reduction="sum")
        (loss * weight).backward()
        found, rejected = (is_stated & predicted).sum(), (is_known & ~is_stated & ~predicted).sum()
        return torch.stack([loss.detach(), is_stated.sum(), found, rejected])

    def point(self, sums: Tensor, count: int) -> dict[str, float]:
        """Mean loss and accuracy over all known labels; sensitivity and specificity, because most are not stated."""
        loss, stated, found, rejected = sums.tolist()
        return {
            "loss": loss / count,
            "accuracy": (found + rejected) / count,
            "sensitivity": found / max(1.0, stated),
            "specificity": rejected / max(1.0, count - stated),
        }

    def state(self) -> dict[str, Tensor]:
        """Weights and batch norms under the names of ECGFounder's authors."""
        return self.network.state_dict()

    def facts(self, counts: Tensor, examples: int) -> dict[str, Any]:
        """The labels, and in how many of the examples each was stated, and was known."""
        return {
            "labels": list(self.labels),
            "stated": dict(zip(self.labels, counts[1].tolist(), strict=True)),
            "known": dict(zip(self.labels, counts.sum(dim=0).tolist(), strict=True)),
        }


def statement_objective(
    recipe: EcgFounderRecipe, pretraining: EcgFounderPretraining, *, targets: Mapping[str, ArrayShards], seed: int
) -> StatementObjective:
    """The objective of a new network. targets: by site, their attribute `codes` names the labels.

    No label, or other labels at another site, is a ValueError.
    """
    found = {tuple(attributes["codes"]) for shards in targets.values() if (attributes := shards.attributes())}
    if len(found) != 1:
        raise ValueError(f"the sites' statement targets have {len(found)} lists of codes, and must have one")
    (labels,) = found
    if not labels:
        raise ValueError("there is no statement to pretrain on: its list of codes is empty")
    return StatementObjective(
        network=net1d(recipe, labels=len(labels), seed=seed),
        recipe=recipe,
        pretraining=pretraining,
        labels=labels,
        seed=seed,
        group=DROPOUT_GROUP if recipe.dropout else 1,
    )
