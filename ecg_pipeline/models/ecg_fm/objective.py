"""ECG-FM's pretraining: masked frames are predicted, and the other segment of a recording is found (CMSC)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ecg_pipeline.models.ecg_fm.contrast import cmsc_loss, mean_over_time
from ecg_pipeline.models.ecg_fm.masking import sample_lead_masks, sample_negatives, sample_span_masks
from ecg_pipeline.models.ecg_fm.network import EcgFmModel, Predictions, ecg_fm_model
from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe
from ecg_pipeline.training.schedules import UNCORRECTED_EPS


@dataclass(frozen=True, kw_only=True)
class MaskedSegments:
    """A group of segments (B, L, T), the two of a recording side by side, with masked leads set to 0.

    mask (B, frames) bool; negatives (B, masked, N): see `masking`. seed: of the dropout and the quantiser's noise.
    """

    segments: Tensor
    mask: Tensor
    negatives: Tensor
    gumbel_temperature: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class EcgFmObjective:
    """ECG-FM's pretraining as a `training.objective.Objective`."""

    network: EcgFmModel
    recipe: EcgFmRecipe
    pretraining: EcgFmPretraining
    seed: int

    @property
    def group(self) -> int:
        """Segments that go through the network together."""
        return self.pretraining.group

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """One group: weight decay is that of all parameters."""
        options = {"betas": self.pretraining.betas, UNCORRECTED_EPS: self.pretraining.eps}
        return [{"params": list(self.network.parameters()), "weight_decay": weight_decay, **options}]

    def micro_batch(self, arrays: Mapping[str, NDArray], places: range, *, step: int, device: str) -> MaskedSegments:
        """The segments of a group with its masks, which are a function of seed, step and the group's place."""
        chosen = slice(places.start, places.stop)
        segments = torch.from_numpy(arrays[self.recipe.view][chosen])
        count, leads, samples = segments.shape
        rng = np.random.default_rng([self.seed, step, places.start // self.group])
        is_zeroed = sample_lead_masks(self.pretraining.lead_mask, rng, segments=count, leads=leads)
        frames = self.recipe.shape.frames(samples)
        mask = sample_span_masks(self.pretraining.mask, rng, segments=count, frames=frames)
        masked = int(mask[0].sum())
        negatives = sample_negatives(rng, segments=count, masked=masked, negatives=self.pretraining.negatives)
        return MaskedSegments(
            segments=segments.to(device).masked_fill(torch.from_numpy(is_zeroed).to(device)[..., None], 0),
            mask=torch.from_numpy(mask).to(device),
            negatives=torch.from_numpy(negatives).to(device),
            gumbel_temperature=self.pretraining.gumbel.temperature(step),
            seed=int(rng.integers(2**63)),
        )

    def count(self, micro_batch: MaskedSegments) -> Tensor:
        """How often each frame is masked, (frames,)."""
        return micro_batch.mask.sum(dim=0)

    def backward(self, network: nn.Module, micro_batch: MaskedSegments, *, weight: float) -> Tensor:
        """Accumulate the gradient of `weight` times the loss of a group, which is a sum over its masked frames.

        Returns (8,): the loss and its four terms, see `loss_terms`, the number of frames whose own target is the
        likeliest, and the two perplexities of `quantiser.Quantised` times the number of masked frames.
        """
        device = micro_batch.segments.device
        torch.manual_seed(micro_batch.seed)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
            found: Predictions = network(
                micro_batch.segments,
                micro_batch.mask,
                micro_batch.negatives,
                gumbel_temperature=micro_batch.gumbel_temperature,
            )
        order = torch.arange(len(micro_batch.segments), device=device)
        terms = loss_terms(found, self.pretraining, recordings=order // 2, places=order % 2)
        loss = terms.sum()
        (loss * weight).backward()
        frames, quantised = found.logits[..., 0].numel(), found.quantised
        perplexities = torch.stack([quantised.code_perplexity, quantised.probability_perplexity])
        return torch.cat([loss[None], terms, correct(found.logits)[None], frames * perplexities]).detach()

    def point(self, sums: Tensor, count: int) -> dict[str, float]:
        """Means over masked frames: the loss in nats and its terms, accuracy, and how many codes are in use."""
        names = ("loss", "contrast", "diversity", "penalty", "cmsc", "accuracy", "code_perplexity")
        return dict(zip((*names, "probability_perplexity"), (sums / count).tolist(), strict=True))

    def state(self) -> dict[str, Tensor]:
        """Weights under the names of ECG-FM's authors."""
        return self.network.state_dict()

    def facts(self, counts: Tensor, examples: int) -> dict[str, Any]:
        """The share of segments in which each frame was masked."""
        return {"frame_mask_frequency": [round(share, 4) for share in (counts / examples).tolist()]}


def loss_terms(found: Predictions, recipe: EcgFmPretraining, *, recordings: Tensor, places: Tensor) -> Tensor:
    """The weighted terms of a group's loss, (4,), each times the number n of its masked frames.

    Contrast: the summed cross entropy of the frames. Diversity: n times `quantiser.Quantised.unused`. Penalty: n times
    the mean square of the features. CMSC: n times `contrast.cmsc_loss`.
    recordings, places: (B,), as of `cmsc_loss`.
    """
    logits = found.logits.flatten(0, 1)
    contrast = cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long), reduction="sum")
    cmsc = cmsc_loss(
        mean_over_time(found.context.float()),
        recordings=recordings,
        places=places,
        temperature=recipe.cmsc_temperature,
    )
    others = (
        recipe.diversity_weight * found.quantised.unused,
        recipe.penalty_weight * found.penalty,
        recipe.cmsc_weight * cmsc,
    )
    return torch.stack([contrast, *(len(logits) * term for term in others)])


def correct(logits: Tensor) -> Tensor:
    """Number of frames whose own target has the largest logit, and not all have the same. logits: (B, T, 1 + N)."""
    first = logits.argmax(dim=-1) == 0
    return (first & (logits.argmin(dim=-1) != 0)).sum()


def ecg_fm_objective(recipe: EcgFmRecipe, pretraining: EcgFmPretraining, *, seed: int) -> EcgFmObjective:
    """The objective of a new network."""
    network = ecg_fm_model(recipe, pretraining, seed=seed)
    return EcgFmObjective(network=network, recipe=recipe, pretraining=pretraining, seed=seed)
