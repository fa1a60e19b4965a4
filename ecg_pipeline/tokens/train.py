"""Training a discrete VAE on ECG images, for studies without DALL-E's weights.

An ECG image is mostly blank paper. Two things keep the codes from collapsing onto it: inked pixels have more weight in
the reconstruction loss, and a usage loss pushes the inked patches of a batch towards the whole vocabulary (divergence
of their mean code distribution from the uniform one). Blank patches are not in the usage loss; one code is enough.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import cos, log, pi
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softmax

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.tokens.discrete_vae import DiscreteVae, gumbel_noise, relaxed_codes
from ecg_pipeline.tokens.encode import inked_patches, measure_usage
from ecg_pipeline.tokens.pixels import token_view
from ecg_pipeline.tokens.recipes import TokenizerRecipe
from ecg_pipeline.tokens.tokenizer import ImageTokenizer, save_tokenizer

SAMPLE = 4096
"""Largest number of images trained on, sampled at random: 800,000 patches are enough variety."""


def train_tokenizer(
    recipe: TokenizerRecipe,
    *,
    images: Mapping[str, ImageShards],
    ecg_ids: frozenset[str],
    out: Path,
    device: str = "cpu",
    progress: Progress = no_progress,
    log_metrics: Callable[[int, Mapping[str, float]], None] = lambda step, values: None,
) -> ImageTokenizer:
    """Train on a sample of the images of `ecg_ids`, on no others, and write the tokenizer to `out`.

    images: by site. log_metrics: called with the step and the losses. The config holds the usage of the vocabulary on
    the sampled images (`measure_usage`). Deterministic on one kind of processor. A loss that is not finite is a
    FloatingPointError.
    """
    sampled = sample_images(images, ecg_ids, seed=recipe.seed)
    ink = 1 - torch.from_numpy(token_view(sampled))[:, None]  # (N, 1, S, S)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = DiscreteVae(vocabulary=recipe.vocabulary, hidden=recipe.hidden).to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(recipe.seed)
    for step in range(recipe.steps):
        done = step / recipe.steps
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, 20 * done + 0.05) * (0.51 + 0.49 * cos(pi * done))
        chosen = torch.randint(len(ink), (min(recipe.batch, len(ink)),), generator=generator)
        target = ink[chosen].to(device)
        logits = network.encode(target)
        noise = gumbel_noise(logits, generator)
        codes = relaxed_codes(logits, noise=noise, temperature=_temperature(recipe, done))
        reconstructed = network.decode(codes)
        reconstruction = ((1 + recipe.ink_weight * target) * (reconstructed - target) ** 2).mean()
        loss = reconstruction + recipe.usage_weight * _uneven_usage(logits, ink=target)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"step {step}: the tokenizer's loss is {loss.item()}; lower its learning rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        progress(step + 1, recipe.steps)
        if step % 20 == 0 or step + 1 == recipe.steps:
            log_metrics(step, {"loss": loss.item(), "reconstruction": reconstruction.item()})
    tokenizer = measure_usage(save_tokenizer(out, state=network.state_dict(), config=asdict(recipe)), sampled, device)
    log_metrics(recipe.steps, tokenizer.config().get("usage_inked", {}))
    return tokenizer


def sample_images(
    images: Mapping[str, ImageShards], ecg_ids: frozenset[str], *, seed: int, limit: int = SAMPLE
) -> NDArray[np.uint8]:
    """A random sample, without replacement, of at most `limit` images of `ecg_ids`: (n, H, W) uint8, site by site.

    images: by site. If none has an image of `ecg_ids`: ValueError.
    """
    generator = torch.Generator().manual_seed(seed)
    known = [(site, name) for site, shards in images.items() for name in shards.index()["ecg_id"] if name in ecg_ids]
    if not known:
        raise ValueError("none of the pretraining sites has an ECG of a training patient")
    chosen = [known[place] for place in torch.randperm(len(known), generator=generator)[:limit].tolist()]
    by_site = {site: sorted(name for where, name in chosen if where == site) for site in images}
    return np.concatenate([images[site].read_ecgs(names) for site, names in by_site.items() if names])


def _temperature(recipe: TokenizerRecipe, done: float) -> float:
    """Temperature after a share `done` of the steps: a cosine from the first value of the recipe to the second."""
    first, last = recipe.temperature
    return last + (first - last) * 0.5 * (1 + cos(pi * done))


def _uneven_usage(logits: Tensor, *, ink: Tensor) -> Tensor:
    """Usage loss: divergence of the mean code distribution over inked patches from the uniform one, in nats."""
    inked = inked_patches(ink, logits.shape[-1]).float()  # (B, 1, H, W)
    mean = (softmax(logits, dim=1) * inked).sum(dim=(0, 2, 3)) / inked.sum().clamp_min(1)
    return log(len(mean)) + (mean * mean.clamp_min(1e-20).log()).sum()
