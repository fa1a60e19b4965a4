"""D-BETA's pretraining as the training loop sees it: groups of ECGs and texts with all their losses."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor, nn

from ecg_pipeline.models.d_beta.losses import (
    matching_loss,
    pair_loss,
    reconstruction_loss,
    reconstruction_target,
    word_loss,
)
from ecg_pipeline.models.d_beta.masking import (
    NOT_PREDICTED,
    NegativeTexts,
    Texts,
    Words,
    leads_kept,
    mask_words,
    order_tokens,
    replace_texts,
)
from ecg_pipeline.models.d_beta.network import DBetaModel, Predictions, d_beta_model
from ecg_pipeline.models.d_beta.recipes import TEXTS, DBetaPretraining, DBetaRecipe
from ecg_pipeline.models.t5 import EMBEDDING, read_t5_folder
from ecg_pipeline.storage.shards import ArrayShards

TERMS = ("words", "reconstruction", "matching", "pairs")
"""Names of the losses: MLM, MEM, ETM, ETS."""


@dataclass(frozen=True, kw_only=True)
class MaskedPairs:
    """A group of B ECGs, each with a text that may not be its own.

    x (B, L, T) float32: lost leads are 0. token_ids, is_word, labels (B, M): texts as they are shown, where they are no
    padding, and the tokens to be predicted. is_aligned (B,) bool: whether a text is its ECG's own. order (B, N): places
    of the ECG tokens, of which the first `kept` are seen. counts (B, B) bool: pairs that count in the contrast; None is
    all. seed: of the dropout.
    """

    x: Tensor
    token_ids: Tensor
    is_word: Tensor
    labels: Tensor
    is_aligned: Tensor
    order: Tensor
    kept: int
    counts: Tensor | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class DBetaObjective:
    """D-BETA's pretraining as a `training.objective.Objective`. text_start: where the text encoder came from."""

    network: DBetaModel
    recipe: DBetaRecipe
    pretraining: DBetaPretraining
    words: Words
    negatives: NegativeTexts
    seed: int
    text_start: Mapping[str, str]

    @property
    def group(self) -> int:
        """ECGs that go through the network together."""
        return self.pretraining.group

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """One group: weight decay is that of all parameters."""
        options = {"betas": self.pretraining.betas, "eps": self.pretraining.eps}
        return [{"params": list(self.network.parameters()), "weight_decay": weight_decay, **options}]

    def micro_batch(self, arrays: Mapping[str, NDArray], places: range, *, step: int, device: str) -> MaskedPairs:
        """A group with its masks and its replaced texts, which are a function of seed, step and the group's place."""
        chosen, recipe = slice(places.start, places.stop), self.pretraining
        x, own = arrays[self.recipe.view][chosen], unpacked(arrays[TEXTS][chosen])
        rng = np.random.default_rng([self.seed, step, places.start // self.group])
        # A text is replaced before it is masked, so that what the network reads is what `is_aligned` speaks of.
        texts, is_aligned = replace_texts(own, self.negatives, share=recipe.replaced, rng=rng)
        texts = shortened(texts)
        shown, labels = mask_words(texts, self.words, probability=recipe.text_mask, rng=rng)
        order = order_tokens(rng.random((len(x), self.recipe.ecg_shape.frames(x.shape[2]))))
        is_kept = leads_kept(rng.random(x.shape[:2]), recipe.lead_mask)
        counts = None if recipe.equal_reports == "negative" else pairs_that_count(own.ids, texts.ids)

        def on_device(array: NDArray) -> Tensor:
            return torch.from_numpy(array).to(device)

        waves = on_device(x if self.recipe.rows is None else x[:, list(self.recipe.rows)])
        return MaskedPairs(
            x=waves.masked_fill(on_device(~is_kept)[..., None], 0),
            token_ids=on_device(shown),
            is_word=on_device(texts.is_word),
            labels=on_device(labels),
            is_aligned=on_device(is_aligned),
            order=on_device(order),
            kept=recipe.tokens_kept(order.shape[1]),
            counts=None if counts is None else on_device(counts),
            seed=int(rng.integers(2**63)),
        )

    def count(self, micro_batch: MaskedPairs) -> Tensor:
        """How many texts are not their ECG's own, and how many are, (2,)."""
        aligned = micro_batch.is_aligned.sum()
        return torch.stack([len(micro_batch.is_aligned) - aligned, aligned])

    def backward(self, network: nn.Module, micro_batch: MaskedPairs, *, weight: float) -> Tensor:
        """Accumulate the gradient of `weight` times the loss of a group times the number of its ECGs.

        Returns (7,), each times the number of ECGs: the loss, its terms in the order of `TERMS`, and the shares of
        masked tokens and of pairs that are predicted correctly.
        """
        group, device = micro_batch, micro_batch.x.device
        torch.manual_seed(group.seed)
        is_masked = group.labels != NOT_PREDICTED
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
            found: Predictions = network(
                group.x, group.token_ids, group.is_word, is_masked=is_masked, order=group.order, kept=group.kept
            )
        terms = loss_terms(found, group, samples=self.recipe.samples_per_token, recipe=self.pretraining)
        ecgs = len(group.x)
        loss = terms.sum() * ecgs
        (loss * weight).backward()
        words = group.labels[is_masked]
        right = torch.stack(
            [
                (found.words.argmax(dim=1) == words).sum() / max(1, len(words)),
                (found.matching.argmax(dim=1) == group.is_aligned).float().mean(),
            ]
        )
        return torch.cat([loss[None], terms * ecgs, right * ecgs]).detach()

    def point(self, sums: Tensor, count: int) -> dict[str, float]:
        """Means over ECGs: the loss and its terms, and the accuracies on masked tokens and on pairs."""
        names = ("loss", *TERMS, "accuracy", "matching_accuracy")
        return dict(zip(names, (sums / count).tolist(), strict=True))

    def state(self) -> dict[str, Tensor]:
        """Weights under the names of D-BETA's authors."""
        return self.network.state_dict()

    def facts(self, counts: Tensor, examples: int) -> dict[str, Any]:
        """The tokenizer's numbers, the share of texts that were replaced, and where the text encoder came from."""
        words = {"vocabulary": self.words.vocabulary, "mask_token": self.words.mask, "leads": self.recipe.leads}
        return {**words, "replaced_texts": round(int(counts[0]) / examples, 4), **self.text_start}


def loss_terms(found: Predictions, group: MaskedPairs, *, samples: int, recipe: DBetaPretraining) -> Tensor:
    """The four losses of a group, (4,), in the order of `TERMS`."""
    tokens = group.order.shape[1]
    is_removed = torch.ones_like(group.order, dtype=torch.bool).scatter(1, group.order[:, : group.kept], False)
    target = reconstruction_target(group.x, tokens=tokens, samples=samples, standardised=recipe.standardised_target)
    return torch.stack(
        [
            word_loss(found.words.float(), group.labels[group.labels != NOT_PREDICTED]),
            reconstruction_loss(found.ecg.float(), target, is_removed),
            matching_loss(found.matching.float(), group.is_aligned),
            pair_loss(found.similarities, group.is_aligned, counts=group.counts),
        ]
    )


def unpacked(rows: NDArray) -> Texts:
    """The target's rows (n, 2 + M), see `recipes.TEXTS`, as texts."""
    rows = rows.astype(np.int64)
    return Texts(ids=rows[:, 0], lengths=rows[:, 1], tokens=rows[:, 2:])


def shortened(texts: Texts) -> Texts:
    """Texts without the padding that all of them have."""
    return Texts(ids=texts.ids, lengths=texts.lengths, tokens=texts.tokens[:, : texts.lengths.max()])


def pairs_that_count(own: NDArray, shown: NDArray) -> NDArray[np.bool_]:
    """All pairs but those of an ECG and another's text that is the same as its own: (B, B) bool, ECGs by texts.

    own: ids of the ECGs' own texts. shown: of those that the network reads.
    """
    return (own[:, None] != shown[None, :]) | np.eye(len(own), dtype=bool)


def words_of(texts: Mapping[str, ArrayShards]) -> Words:
    """The tokenizer's numbers, by the attributes of the target at any site."""
    found = next(attributes for shards in texts.values() if (attributes := shards.attributes()))
    special = tuple(int(one) for one in found["special"])
    return Words(vocabulary=int(found["vocabulary"]), pad=int(found["pad"]), mask=int(found["mask"]), special=special)


def read_negatives(folder: Path) -> NegativeTexts:
    """The fitted negatives: a folder with `texts.safetensors`, see `masking.NegativeTexts`."""
    found = {name: array.astype(np.int64) for name, array in load_file(folder / "texts.safetensors").items()}
    return NegativeTexts(tokens=found["token_ids"], lengths=found["lengths"], negatives=found["negatives"])


def d_beta_objective(
    recipe: DBetaRecipe,
    pretraining: DBetaPretraining,
    *,
    words: Words,
    negatives: NegativeTexts,
    text_folder: Path | None,
    seed: int,
) -> DBetaObjective:
    """The objective of a new network. text_folder: a local T5 that the text encoder starts from; None is at random.

    A T5 of other sizes than the recipe's is a ValueError, and so is one with fewer tokens than the tokenizer. It may
    have more, as Flan-T5 has.
    """
    state, start, vocabulary = None, {"text_encoder": "random initialisation"}, words.vocabulary
    if text_folder is not None:
        shape, state = read_t5_folder(text_folder)
        if shape != recipe.text_shape:
            raise ValueError(f"{text_folder} has a T5 of {shape}, but the recipe says {recipe.text_shape}")
        vocabulary = len(state[EMBEDDING])
        if vocabulary < words.vocabulary:
            raise ValueError(f"{text_folder} has a T5 of {vocabulary} tokens for a tokenizer of {words.vocabulary}")
        start = {"text_encoder": f"local T5 folder {text_folder.name}"}
    return DBetaObjective(
        network=d_beta_model(recipe, vocabulary=vocabulary, rate=pretraining.dropout, seed=seed, text=state),
        recipe=recipe,
        pretraining=pretraining,
        words=words,
        negatives=negatives,
        seed=seed,
        text_start=start,
    )
