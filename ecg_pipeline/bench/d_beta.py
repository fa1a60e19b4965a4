"""Our pretraining step of D-BETA, compared with the same step composed of transformers' layers."""

from collections.abc import Sequence

import numpy as np
import torch

from ecg_pipeline.bench.compare import Row, compare
from ecg_pipeline.bench.composed_d_beta import Obvious
from ecg_pipeline.bench.steps import Step, our_loss, our_step, their_step
from ecg_pipeline.models.d_beta.masking import NegativeTexts, Words
from ecg_pipeline.models.d_beta.objective import d_beta_objective
from ecg_pipeline.models.d_beta.recipes import TEXTS, DBetaPretraining, DBetaRecipe
from ecg_pipeline.storage.parallel import disable_malloc_trim

AGAINST = "transformers' Wav2Vec2, T5, BERT and CLIP layers, words predicted at all tokens, unfused AdamW"

SAMPLES = 5000

LENGTHS = (4, 6, 7, 9, 13, 17, 24, 39)
"""Words, punctuation and end of eight reports: quantiles of those in PTB-XL's public sample of 2,090 ECGs."""

VOCABULARY = 32128
"""Flan-T5's."""


def pretrain() -> list[Row]:
    """ECGs per second of a whole step (forward, backward, AdamW) at base size, without dropout."""
    disable_malloc_trim()
    ours, theirs = steps(DBetaRecipe(), lengths=LENGTHS, samples=SAMPLES, vocabulary=VOCABULARY)
    return [
        compare(
            "pretrain-d-beta",
            against=AGAINST,
            ours=ours,
            theirs=theirs,
            target=1.3,
            unit=f"times the ECGs a second, base size, batch {len(LENGTHS)}, {torch.get_num_threads()} threads",
        )
    ]


def steps(recipe: DBetaRecipe, *, lengths: Sequence[int], samples: int, vocabulary: int) -> tuple[Step, Step]:
    """A training step of ours and one of theirs. Both start from the same weights and train on the same batch with the
    same masks, without dropout; other losses at the start are a ValueError.
    """
    count = len(lengths)
    pretraining = DBetaPretraining(batch=count, group=count, clip=None, dropout=0.0)
    objective = d_beta_objective(
        recipe,
        pretraining,
        words=Words(vocabulary=vocabulary, pad=0, mask=2, special=(0, 1, 2)),
        negatives=_negatives(lengths, vocabulary),
        text_folder=None,
        seed=0,
    )
    texts = objective.negatives
    rows = np.concatenate([np.arange(count)[:, None], texts.lengths[:, None], texts.tokens], axis=1).astype(np.int32)
    x = np.random.default_rng(1).standard_normal((count, recipe.ecg_shape.leads, samples)).astype(np.float32)
    arrays = {recipe.view: x, TEXTS: rows}
    obvious = Obvious(objective.network.train(), vocabulary).train()
    group = objective.micro_batch(arrays, range(count), step=0, device="cpu")
    rate, decay = pretraining.learning_rate, pretraining.weight_decay
    options = {"betas": pretraining.betas, "eps": pretraining.eps, "weight_decay": decay}
    our_optimiser = torch.optim.AdamW(objective.parameter_groups(decay), lr=rate, fused=True)
    their_optimiser = torch.optim.AdamW(obvious.parameters(), lr=rate, **options)

    ours = our_loss(objective, group, count=count)
    with torch.no_grad():
        theirs = obvious(group).item()
    if not abs(ours - theirs) <= 1e-5 * abs(theirs):
        raise ValueError(f"the losses differ: {ours} and {theirs}")
    return (
        our_step(objective, lambda: group, our_optimiser, count=count, clip=pretraining.clip),
        their_step(obvious, lambda: obvious(group), their_optimiser, clip=pretraining.clip),
    )


def _negatives(lengths: Sequence[int], vocabulary: int) -> NegativeTexts:
    """Texts of random tokens with these lengths; each has its neighbours as negatives."""
    count, rng = len(lengths), np.random.default_rng(0)
    ends = np.array(lengths)
    tokens = rng.integers(3, vocabulary, (count, ends.max()))
    tokens[np.arange(tokens.shape[1]) >= ends[:, None]] = 0
    tokens[np.arange(count), ends - 1] = 1
    negatives = (np.arange(count)[:, None] + [1, count - 1]) % count
    return NegativeTexts(tokens=tokens, lengths=ends, negatives=negatives)
