"""ECG-FM's network: the encoder of waveforms, with what pretraining needs beside it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from ecg_pipeline.models.ecg_fm.contrast import frame_logits
from ecg_pipeline.models.ecg_fm.quantiser import Quantised, Quantiser
from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe
from ecg_pipeline.models.initialisation import seeded
from ecg_pipeline.models.wav2vec2 import WaveformEncoder

HEADS = ("mask_emb", "quantizer.", "project_q.", "final_proj.")
"""Beginnings of the names of weights that only pretraining needs, and that a file may lack."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What pretraining computes of a group of B segments with T masked frames each.

    logits (B, T, 1 + N): see `contrast.frame_logits`; class 0 is right. context (B, frames, D): the encoder's output.
    quantised: targets (B, T, .), of which `projected` (B, T, C) is compared with `predicted` (B, T, C).
    penalty: mean square of the extractor's output.
    """

    logits: Tensor
    context: Tensor
    quantised: Quantised
    projected: Tensor
    predicted: Tensor
    penalty: Tensor


class EcgFmModel(WaveformEncoder):
    """ECG-FM in pretraining: predicts the quantised frames that are masked from the others."""

    def __init__(self, recipe: EcgFmRecipe, pretraining: EcgFmPretraining):
        super().__init__(recipe.shape, pretraining.dropouts, input_dropout=pretraining.input_dropout)
        self.pretraining = pretraining
        channels = recipe.conv_widths[-1]
        self.mask_emb = nn.Parameter(torch.rand(recipe.width))
        self.quantizer = Quantiser(channels, codebooks=recipe.codebooks, codes=recipe.codes, out=recipe.quantised_width)
        self.project_q = nn.Linear(recipe.quantised_width, recipe.contrast_width)
        self.final_proj = nn.Linear(recipe.width, recipe.contrast_width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        negatives: Tensor,
        *,
        gumbel_temperature: float = 1.0,
        noise: Tensor | None = None,
    ) -> Predictions:
        """Waveforms (B, L, T), mask (B, frames) bool with equally many masked frames a row, negatives (B, masked, N).

        noise: (B, masked, G, V) of the quantiser; sampled in training if it is None.
        """
        features = self.feature_extractor(x)
        if features.requires_grad:  # scales the gradient of the penalty, too
            features.register_hook(lambda gradient: gradient * self.pretraining.feature_grad_mult)
        penalty = features.float().square().mean()
        frames = self.layer_norm(features.mT)
        masked = torch.where(mask[..., None], self.mask_emb, self.project(frames).to(self.mask_emb.dtype))
        context = self.encoder(self.locate(masked))
        # Masked frames first; their number is known without a look at the mask, which a GPU would have to wait for.
        places = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, : negatives.shape[1], None]
        targets = dropout(_rows(frames, places), self.pretraining.feature_dropout, self.training)
        quantised = self.quantizer(targets, temperature=gumbel_temperature, noise=noise)
        projected, predicted = self.project_q(quantised.vectors), self.final_proj(_rows(context, places))
        with torch.autocast(x.device.type, enabled=False):
            logits = frame_logits(
                predicted.float(),
                projected.float(),
                codes=self.quantizer.joint_codes(quantised.codes),
                negatives=negatives,
                temperature=self.pretraining.temperature,
            )
        return Predictions(
            logits=logits,
            context=context,
            quantised=quantised,
            projected=projected,
            predicted=predicted,
            penalty=penalty,
        )


def _rows(frames: Tensor, places: Tensor) -> Tensor:
    """Frames at some places: (B, T, D), (B, n, 1) -> (B, n, D)."""
    return frames.gather(1, places.expand(-1, -1, frames.shape[-1]))


def ecg_fm_model(recipe: EcgFmRecipe, pretraining: EcgFmPretraining, *, seed: int) -> EcgFmModel:
    """A model to pretrain, initialised as by the authors."""
    with seeded(seed):
        return EcgFmModel(recipe, pretraining)
