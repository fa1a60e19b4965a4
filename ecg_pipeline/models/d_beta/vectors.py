"""Vectors of ECGs and of texts by a pretrained network, whose dot product says how well they fit (zero-shot)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ecg_pipeline.models.d_beta.network import DBetaModel, d_beta_model
from ecg_pipeline.models.d_beta.recipes import DBetaRecipe
from ecg_pipeline.models.family import NoTextEncoder
from ecg_pipeline.models.t5 import EMBEDDING
from ecg_pipeline.training.checkpoints import Checkpoint
from ecg_pipeline.training.weights import load_exactly

BATCH = 64


@dataclass(frozen=True)
class DBetaVectors:
    """D-BETA's network in eval mode as `family.Vectors`."""

    model: DBetaModel

    def texts(self, token_ids: Iterable[Sequence[int]]) -> NDArray[np.float32]:
        """As `text_vectors`."""
        return text_vectors(self.model, token_ids)

    def ecgs(self, examples: NDArray) -> NDArray[np.float32]:
        """As `ecg_vectors`."""
        return ecg_vectors(self.model, examples)


def d_beta_vectors(
    recipe: DBetaRecipe, start: Checkpoint | None, *, vocabulary: int, seed: int, device: str
) -> DBetaVectors:
    """The vectors of a pretrained network, or of one that is random by `seed`. Errors: see `Family.vectors`."""
    if start is None:
        return DBetaVectors(d_beta_model(recipe, vocabulary=vocabulary, rate=0.0, seed=seed).to(device).eval())
    model = load_pretrained(start, recipe)
    known = model.language_encoder.shared.num_embeddings
    if known < vocabulary:
        raise ValueError(
            f"{start.folder} knows {known} token ids, but the tokenizer of texts has {vocabulary}: it is not the one "
            "that the network was pretrained with"
        )
    return DBetaVectors(model.to(device))


def load_pretrained(checkpoint: Checkpoint, recipe: DBetaRecipe) -> DBetaModel:
    """The whole pretrained network in eval mode. A checkpoint without a text encoder is a NoTextEncoder."""
    state = checkpoint.state()
    table = state.get(f"language_encoder.{EMBEDDING}")
    if table is None:
        raise NoTextEncoder("the pretrained weights have no text encoder, so texts have no vectors")
    model = d_beta_model(recipe, vocabulary=len(table), rate=0.0, seed=0)
    load_exactly(model, state)
    return model.eval()


def ecg_vectors(model: DBetaModel, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Windows (n, 12, T) in millivolts, leads in the order of LEADS -> vectors (n, H), between -1 and 1."""
    device, rows = model.class_embedding.device, model.recipe.rows
    with torch.inference_mode():
        found = [
            model.ecg_vectors(torch.from_numpy(some if rows is None else some[:, list(rows)]).to(device)).float().cpu()
            for some in (windows[first : first + BATCH] for first in range(0, len(windows), BATCH))
        ]
    return torch.cat(found).numpy()


def text_vectors(model: DBetaModel, texts: Iterable[Sequence[int]]) -> NDArray[np.float32]:
    """Token ids of each text, without padding -> vectors (n, H), between -1 and 1. Each text is read by itself."""
    device = model.class_embedding.device
    with torch.inference_mode():
        found = [model.text_vectors(torch.tensor([list(ids)], device=device)).float().cpu() for ids in texts]
    return torch.cat(found).numpy()


def scores(ecgs: NDArray[np.float32], texts: NDArray[np.float32]) -> NDArray[np.float32]:
    """How well each ECG fits each text: raw dot products, (n, H), (m, H) -> (n, m). They are no probabilities."""
    return ecgs @ texts.T
