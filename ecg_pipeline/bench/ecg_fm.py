"""Our pretraining step of ECG-FM, compared with the same step composed of transformers' Wav2Vec2 blocks."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ecg_pipeline.bench.compare import Row, compare
from ecg_pipeline.bench.composed_ecg_fm import Obvious, OnAllFrames, gathered_logits
from ecg_pipeline.bench.products import products_of
from ecg_pipeline.bench.steps import Step, our_loss, our_step, their_step
from ecg_pipeline.models.ecg_fm.contrast import frame_logits
from ecg_pipeline.models.ecg_fm.masking import sample_negatives, sample_span_masks
from ecg_pipeline.models.ecg_fm.objective import ecg_fm_objective
from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe
from ecg_pipeline.storage.parallel import disable_malloc_trim
from ecg_pipeline.study import load_study, study_file
from ecg_pipeline.training.schedules import corrected_eps

SEGMENTS, TINY_SEGMENTS, SAMPLES = 16, 32, 2500
AGAINST = "transformers' Wav2Vec2 blocks, 100 gathered negatives of every frame, unfused AdamW"
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "input_dropout", "feature_dropout")


def pretrain() -> list[Row]:
    """Segments per second of a whole step (forward, backward, AdamW) at base size, without dropout; and the share of
    the speed of its matrix products alone.
    """
    disable_malloc_trim()
    ours, theirs = steps(EcgFmRecipe(), EcgFmPretraining(), segments=SEGMENTS, samples=SAMPLES)
    size = f"base size, batch {SEGMENTS}, {torch.get_num_threads()} threads"
    speed = compare(
        "pretrain-ecg-fm",
        against=AGAINST,
        ours=ours,
        theirs=theirs,
        target=1.2,
        unit=f"times the segments a second, {size}",
    )
    del theirs  # its weights and moments, for the memory of the floor's operands
    share = compare(
        "pretrain-ecg-fm",
        against="its own matrix products and convolutions alone",
        ours=ours,
        theirs=products_of(ours),
        target=0.8,
        unit=f"of the floor's speed, {size}",
    )
    return [speed, share]


def pretrain_tiny() -> list[Row]:
    """Segments per second of a whole step of the demonstration's network, without dropout."""
    disable_malloc_trim()
    recipe = load_study(study_file("demo")).models["ecg_fm"]
    ours, theirs = steps(recipe, EcgFmPretraining(), segments=TINY_SEGMENTS, samples=SAMPLES)
    return [
        compare(
            "pretrain-ecg-fm-tiny",
            against=AGAINST,
            ours=ours,
            theirs=theirs,
            target=2.0,
            unit=f"times the segments a second, the demonstration's network, batch {TINY_SEGMENTS}, "
            f"{torch.get_num_threads()} threads",
        )
    ]


def contrast() -> list[Row]:
    """Batches per second from the vectors of masked frames to the contrast's loss, and back to their gradients."""
    disable_malloc_trim()
    recipe, pretraining = EcgFmRecipe(), EcgFmPretraining()
    frames = recipe.shape.frames(SAMPLES)
    mask = sample_span_masks(pretraining.mask, np.random.default_rng(0), segments=SEGMENTS, frames=frames)
    masked, width = int(mask[0].sum()), recipe.contrast_width
    ours, theirs = contrasts(
        segments=SEGMENTS, masked=masked, width=width, negatives=pretraining.negatives, codes=recipe.codes
    )
    return [
        compare(
            "contrast",
            against="gathered negatives and cosine_similarity",
            ours=ours,
            theirs=theirs,
            target=10,
            unit=f"times the batches a second, {SEGMENTS} segments, {masked} masked frames of width {width}, "
            f"{torch.get_num_threads()} threads",
        )
    ]


def steps(recipe: EcgFmRecipe, pretraining: EcgFmPretraining, *, segments: int, samples: int) -> tuple[Step, Step]:
    """A training step of ours and one of theirs. Both start from the same weights and train on the same batch with the
    same masks, negatives and Gumbel noise, without dropout; other losses at the start are a ValueError.
    """
    pretraining = replace(pretraining, batch=segments, pairs=segments // 2, **dict.fromkeys(DROPOUTS, 0.0))
    rng = np.random.default_rng(0)
    arrays = {recipe.view: rng.standard_normal((segments, recipe.leads, samples)).astype(np.float32)}
    objective = ecg_fm_objective(recipe, pretraining, seed=0)
    micro_batch = objective.micro_batch(arrays, range(segments), step=0, device="cpu")
    count = int(objective.count(micro_batch).sum())
    obvious = Obvious(objective.network.train(), recipe, pretraining).train()
    their_batch = OnAllFrames(micro_batch, recipe)
    rate, decay, betas = pretraining.learning_rate, pretraining.weight_decay, pretraining.betas
    eps = corrected_eps(pretraining.eps, beta2=betas[1], step=0)
    our_optimiser = torch.optim.AdamW(objective.parameter_groups(decay), lr=rate, eps=eps, fused=True)
    their_optimiser = torch.optim.AdamW(obvious.parameters(), lr=rate, betas=betas, eps=eps, weight_decay=decay)

    ours = our_loss(objective, micro_batch, count=count)
    _check_equal("losses", torch.tensor(ours), obvious(their_batch).detach())
    return (
        our_step(objective, lambda: micro_batch, our_optimiser, count=count, clip=pretraining.clip),
        their_step(obvious, lambda: obvious(their_batch), their_optimiser, clip=pretraining.clip),
    )


def contrasts(*, segments: int, masked: int, width: int, negatives: int, codes: int) -> tuple[Step, Step]:
    """The contrast's loss and its gradients, ours and theirs, of the same random vectors; other losses or gradients are
    a ValueError. codes: how many different ones the targets have.
    """
    generator, temperature = torch.Generator().manual_seed(0), 0.1
    frames = (segments, masked)
    code = torch.randint(codes, frames, generator=generator)
    context = torch.randn(*frames, width, generator=generator).requires_grad_()
    targets = torch.randn(codes, width, generator=generator)[code].requires_grad_()
    places = torch.from_numpy(
        sample_negatives(np.random.default_rng(0), segments=segments, masked=masked, negatives=negatives)
    )
    flat = places + masked * torch.arange(segments)[:, None, None]

    def our_logits() -> Tensor:
        return frame_logits(context, targets, codes=code, negatives=places, temperature=temperature).flatten(0, 1)

    def their_logits() -> Tensor:
        return gathered_logits(context, targets, codes=code, negatives=flat, temperature=temperature).flatten(1).T

    def both_ways(logits: Callable[[], Tensor]) -> Tensor:
        context.grad = targets.grad = None
        rows = logits()
        loss = cross_entropy(rows, rows.new_zeros(len(rows), dtype=torch.long))
        loss.backward()
        return loss.detach()

    def found(logits: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        loss = both_ways(logits)
        return loss, torch.stack([context.grad, targets.grad])  # type: ignore[list-item]

    for what, ours, theirs in zip(("losses", "gradients"), found(our_logits), found(their_logits), strict=True):
        _check_equal(what, ours, theirs)
    return lambda: both_ways(our_logits).item(), lambda: both_ways(their_logits).item()


def _check_equal(what: str, ours: Tensor, theirs: Tensor) -> None:
    differ = float((ours - theirs).abs().max() / ours.abs().max())
    if not differ <= 1e-5:
        raise ValueError(f"the {what} differ by {differ:.2g} of the largest")
