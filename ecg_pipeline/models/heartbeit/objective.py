"""Masked image modelling: predicting the tokens of masked patches (paper: Masked Image Modeling)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ecg_pipeline.models.family import IMAGES
from ecg_pipeline.models.heartbeit.beit import MEAN, STD, MaskedImageModel, masked_image_model, sample_drop_path_scale
from ecg_pipeline.models.heartbeit.masking import sample_masks
from ecg_pipeline.models.heartbeit.recipes import TOKENS, HeartBeitRecipe, MaskRecipe
from ecg_pipeline.models.normalisation import normalise
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.loop import step_seed
from ecg_pipeline.training.schedules import decay_groups


@dataclass(frozen=True, kw_only=True)
class MaskedImages:
    """The images of a batch that go through the network at once.

    images (B, H, W) uint8; tokens (B, P); mask (B, P) bool; drop_path_scale (blocks, 2, B) on the CPU, or None: see
    `beit.sample_drop_path_scale`.
    """

    images: Tensor
    tokens: Tensor
    mask: Tensor
    drop_path_scale: Tensor | None


@dataclass(frozen=True, kw_only=True)
class MaskedImageObjective:
    """Masked image modelling as a `training.objective.Objective`.

    background: id of the commonest token, that of blank paper.
    """

    network: MaskedImageModel
    recipe: HeartBeitRecipe
    mask: MaskRecipe
    vocabulary: int
    background: int
    seed: int
    group: int = 1

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """The groups of BEiT's authors."""
        return decay_groups(self.network, weight_decay)

    def micro_batch(self, arrays: Mapping[str, NDArray], places: range, *, step: int, device: str) -> MaskedImages:
        """Images and tokens at some places of a batch, with masks and stochastic depth."""
        grid, chosen = self.recipe.grid, slice(places.start, places.stop)
        masks = sample_masks(self.mask, places, seed=self.seed, step=step, rows=grid, columns=grid)
        # Sampled for the whole batch, so that an image's factors do not depend on how the batch is divided.
        generator = torch.Generator().manual_seed(step_seed(self.seed, step=step))
        drop_path_scale = sample_drop_path_scale(self.recipe, len(arrays[IMAGES]), generator)
        return MaskedImages(
            images=torch.from_numpy(arrays[IMAGES][chosen]).to(device, non_blocking=True),
            tokens=torch.from_numpy(arrays[TOKENS][chosen]).to(device, torch.long, non_blocking=True),
            mask=torch.from_numpy(masks).to(device),
            drop_path_scale=None if drop_path_scale is None else drop_path_scale[:, :, chosen],
        )

    def count(self, micro_batch: MaskedImages) -> Tensor:
        """How often each patch is masked, (P,)."""
        return micro_batch.mask.sum(dim=0)

    def backward(self, network: nn.Module, micro_batch: MaskedImages, *, weight: float) -> Tensor:
        """Accumulate the gradient of `weight` times the summed cross entropy of the masked patches.

        Returns (4,): the unweighted sum, and of the masked patches the numbers that are predicted correctly, that are
        predicted correctly and not background, and that are not background.
        """
        device = micro_batch.images.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
            pixels = normalise(micro_batch.images, mean=MEAN, std=STD)
            logits = network(pixels, micro_batch.mask, micro_batch.drop_path_scale)
        target = micro_batch.tokens[micro_batch.mask]
        loss = cross_entropy(logits.float(), target, reduction="sum")
        (loss * weight).backward()
        correct, inked = logits.argmax(dim=-1) == target, target != self.background
        return torch.stack([loss.detach(), correct.sum(), (correct & inked).sum(), inked.sum()])

    def point(self, sums: Tensor, count: int) -> dict[str, float]:
        """Mean loss and accuracies on the masked patches.

        Most patches are blank paper, so accuracy is also given on the others (`accuracy_inked`), and that of always
        predicting the commonest token (`accuracy_of_background`).
        """
        loss, correct, correct_inked, inked = sums.tolist()
        return {
            "loss": loss / count,
            "accuracy": correct / count,
            "accuracy_inked": correct_inked / max(1.0, inked),
            "accuracy_of_background": 1 - inked / count,
        }

    def state(self) -> dict[str, Tensor]:
        """Weights under the names of BEiT's authors."""
        return self.network.official_state()

    def facts(self, counts: Tensor, examples: int) -> dict[str, Any]:
        """Vocabulary, and the share of images in which each patch was masked."""
        shares = (counts / examples).reshape(self.recipe.grid, self.recipe.grid).tolist()
        return {
            "vocabulary": self.vocabulary,
            "mask_frequency": [[round(share, 4) for share in row] for row in shares],
        }


def masked_image_objective(
    recipe: HeartBeitRecipe,
    mask: MaskRecipe,
    *,
    tokens: Mapping[str, ArrayShards],
    table: pl.DataFrame,
    seed: int,
) -> MaskedImageObjective:
    """The objective of a new network. tokens: by site. table: the ECGs that are pretrained on."""
    vocabulary = next(int(found["vocabulary"]) for shards in tokens.values() if (found := shards.attributes()))
    return MaskedImageObjective(
        network=masked_image_model(recipe, vocabulary=vocabulary, seed=seed),
        recipe=recipe,
        mask=mask,
        vocabulary=vocabulary,
        background=_commonest_token(tokens, table, vocabulary),
        seed=seed,
    )


def _commonest_token(tokens: Mapping[str, ArrayShards], table: pl.DataFrame, vocabulary: int) -> int:
    """The token id that occurs most often in the pretraining images: that of blank paper."""
    wanted, counts = table["ecg_id"].implode(), np.zeros(vocabulary, np.int64)
    for shards in tokens.values():
        for rows, array in shards:
            ids = array[rows["ecg_id"].is_in(wanted).to_numpy()]
            counts += np.bincount(ids.reshape(-1), minlength=vocabulary)
    return int(counts.argmax())
