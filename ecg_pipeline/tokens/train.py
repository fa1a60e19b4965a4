"""Training a discrete VAE on ECG sheets, where DALL-E's weights are not given.

A sheet is mostly blank paper. Two things keep the codes from collapsing onto it: drawn pixels count more in the
reconstruction, and the drawn patches of a batch are pushed to use the whole vocabulary, by the divergence of their mean
code distribution from the uniform one. Blank patches are left alone: nothing is gained by many names for nothing.
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
from ecg_pipeline.images.views import token_view
from ecg_pipeline.tokens.discrete_vae import DiscreteVae, gumbel_noise, relaxed_codes
from ecg_pipeline.tokens.encode import drawn_patches, measure_usage
from ecg_pipeline.tokens.recipes import TokenizerRecipe
from ecg_pipeline.tokens.tokenizer import ImageTokenizer, save_tokenizer

SAMPLE = 4096
"""Sheets that are trained on at most, drawn at random: 800,000 patches show what ink on paper can look like."""


def train_tokenizer(
    sites: Mapping[str, ImageShards],
    records: frozenset[str],
    recipe: TokenizerRecipe,
    out: Path,
    device: str = "cpu",
    progress: Progress = no_progress,
    log_metrics: Callable[[int, Mapping[str, float]], None] = lambda step, values: None,
) -> ImageTokenizer:
    """Train on a sample of the sheets of `records`, and on nothing else, and write the tokenizer to `out`.

    The config says how the vocabulary is used on those sheets: perplexity, share of the commonest id and of ids
    used, over all patches and over drawn ones. Deterministic on one kind of processor.
    """
    sheets = sample_sheets(sites, records, recipe.seed)
    ink = 1 - torch.from_numpy(token_view(sheets))[:, None]  # (N, 1, S, S)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = DiscreteVae(recipe.vocabulary, recipe.hidden).to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(recipe.seed)
    for step in range(recipe.steps):
        done = step / recipe.steps
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, 20 * done + 0.05) * (0.51 + 0.49 * cos(pi * done))
        chosen = torch.randint(len(ink), (min(recipe.batch, len(ink)),), generator=generator)
        target = ink[chosen].to(device)
        logits = network.encode(target)
        codes = relaxed_codes(logits, gumbel_noise(logits, generator), _temperature(recipe, done))
        drawn = network.decode(codes)
        reconstruction = ((1 + recipe.ink_weight * target) * (drawn - target) ** 2).mean()
        loss = reconstruction + recipe.usage_weight * _unevenness(logits, target)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"step {step}: the tokenizer's loss is {loss.item()}; lower its learning rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        progress(step + 1, recipe.steps)
        if step % 20 == 0 or step + 1 == recipe.steps:
            log_metrics(step, {"loss": loss.item(), "reconstruction": reconstruction.item()})
    made = measure_usage(save_tokenizer(out, network.state_dict(), asdict(recipe)), sheets, device)
    log_metrics(recipe.steps, made.config().get("usage_drawn", {}))
    return made


def sample_sheets(
    sites: Mapping[str, ImageShards], records: frozenset[str], seed: int, limit: int = SAMPLE
) -> NDArray[np.uint8]:
    """(n, H, W) uint8: at most `limit` sheets of `records`, each as likely. No such sheet at all is a ValueError."""
    generator = torch.Generator().manual_seed(seed)
    known = [(site, name) for site, shards in sites.items() for name in shards.index()["record"] if name in records]
    if not known:
        raise ValueError("none of the pretraining sites has an ECG of a training patient")
    chosen = [known[place] for place in torch.randperm(len(known), generator=generator)[:limit].tolist()]
    by_site = {site: sorted(name for where, name in chosen if where == site) for site in sites}
    return np.concatenate([sites[site].read_records(names) for site, names in by_site.items() if names])


def _temperature(recipe: TokenizerRecipe, done: float) -> float:
    """Temperature of the codes when a share of the steps is done: a cosine from the first value to the second."""
    first, last = recipe.temperature
    return last + (first - last) * 0.5 * (1 + cos(pi * done))


def _unevenness(logits: Tensor, ink: Tensor) -> Tensor:
    """Divergence of the mean code distribution over drawn patches from the uniform one, in nats."""
    drawn = drawn_patches(ink, logits.shape[-1]).float()  # (B, 1, H, W)
    mean = (softmax(logits, dim=1) * drawn).sum(dim=(0, 2, 3)) / drawn.sum().clamp_min(1)
    return log(len(mean)) + (mean * mean.clamp_min(1e-20).log()).sum()
