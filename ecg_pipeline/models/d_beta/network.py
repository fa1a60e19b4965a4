"""D-BETA's network: an encoder of ECGs, one of texts, layers that join them, and the heads of pretraining."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ecg_pipeline.models.d_beta.fusion import FusionLayer, Pooler, initialise
from ecg_pipeline.models.d_beta.heads import MatchingHead, ReconstructionHead, WordHead
from ecg_pipeline.models.d_beta.recipes import DBetaRecipe, dropouts
from ecg_pipeline.models.initialisation import seeded
from ecg_pipeline.models.packing import packed, packing, padded
from ecg_pipeline.models.t5 import T5Encoder
from ecg_pipeline.models.wav2vec2 import WaveformEncoder
from ecg_pipeline.training.weights import load_exactly

TEXT, ECG = 0, 1
"""Rows of the table of modalities."""


class EcgPath(nn.Module):
    """ECGs (B, L, T) in millivolts, leads in the network's order -> vectors (B, H): what fine-tuning starts from.

    rate: of dropout.
    """

    def __init__(self, recipe: DBetaRecipe, *, rate: float):
        super().__init__()
        self.recipe = recipe
        self.class_embedding = nn.Parameter(torch.rand(recipe.width))
        self.ecg_encoder = WaveformEncoder(recipe.ecg_shape, dropouts(rate), input_dropout=rate)
        self.multi_modal_ecg_proj = nn.Linear(recipe.width, recipe.joint_width)
        self.unimodal_ecg_pooler = Pooler(recipe.joint_width)
        initialise(self.multi_modal_ecg_proj, self.unimodal_ecg_pooler, std=recipe.initial_std)

    def ecg_tokens(self, x: Tensor) -> Tensor:
        """(B, L, T) -> tokens with their position (B, N, D)."""
        encoder = self.ecg_encoder
        return encoder.locate(encoder.project(encoder.frames(x)))

    def ecg_states(self, tokens: Tensor) -> Tensor:
        """Tokens (B, K, D), all or some -> states (B, 1 + K, H), the class token, which has no position, first."""
        first = self.class_embedding.to(tokens.dtype).expand(len(tokens), 1, -1)
        return self.multi_modal_ecg_proj(self.ecg_encoder.encoder(torch.cat([first, tokens], dim=1)))

    def ecg_vectors(self, x: Tensor) -> Tensor:
        """(B, L, T) -> (B, H), between -1 and 1."""
        return self.unimodal_ecg_pooler(self.ecg_states(self.ecg_tokens(x)))


ECG_PATH = ("class_embedding", "ecg_encoder.", "multi_modal_ecg_proj.", "unimodal_ecg_pooler.")
"""Beginnings of the names of weights that an ECG goes through alone."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A group of B ECGs and texts after the layers that join them.

    text (B, M, H), 0 at padding, ecg (B, 1 + K, H) or (B, 1, H): states after all layers. partly (B, 1 + K, H): of the
    ECG, after those before its reconstruction. text_vectors, ecg_vectors (B, H): of each modality by itself. vectors
    (B, 2 H): of both together, the text's first.
    """

    text: Tensor
    ecg: Tensor
    partly: Tensor
    text_vectors: Tensor
    ecg_vectors: Tensor
    vectors: Tensor


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What pretraining computes of a group.

    words (n, V): logits of the n masked tokens, in the order of the texts. ecg (B, N, L, samples): the reconstruction.
    matching (B, 2): logits. similarities (B, B): ECGs by texts.
    """

    words: Tensor
    ecg: Tensor
    matching: Tensor
    similarities: Tensor


class DBetaModel(EcgPath):
    """D-BETA in pretraining."""

    def __init__(self, recipe: DBetaRecipe, *, vocabulary: int, rate: float = 0.0):
        super().__init__(recipe, rate=rate)
        width, heads = recipe.joint_width, recipe.joint_heads
        self.language_encoder = T5Encoder(recipe.text_shape, vocabulary=vocabulary, dropout=rate)
        self.multi_modal_language_proj = nn.Linear(recipe.text_width, width)
        self.unimodal_language_pooler = Pooler(width)
        self.modality_type_embeddings = nn.Embedding(2, width)
        self.multi_modal_language_layers, self.multi_modal_ecg_layers = (
            nn.ModuleList(FusionLayer(width, heads=heads, rate=rate) for _ in range(recipe.joint_depth))
            for _ in range(2)
        )
        self.multi_modal_language_pooler, self.multi_modal_ecg_pooler = Pooler(width), Pooler(width)
        self.mlm_head = WordHead(width, vocabulary)
        self.mim_head = ReconstructionHead(recipe)
        self.itm_head = MatchingHead(width)
        joining = (part for name, part in self.named_children() if name not in ("ecg_encoder", "language_encoder"))
        initialise(*joining, std=recipe.initial_std)

    def forward(
        self, x: Tensor, token_ids: Tensor, is_word: Tensor, *, is_masked: Tensor, order: Tensor, kept: int
    ) -> Predictions:
        """x: (B, L, T). token_ids, is_word, is_masked: (B, M), texts, where they are no padding, and where words are to
        be predicted. order: (B, N), places of the ECG tokens, of which the first `kept` are seen.
        """
        tokens = self.ecg_tokens(x)
        seen = tokens.gather(1, order[:, :kept, None].expand(-1, -1, tokens.shape[2]))
        joined = self.join(self.ecg_states(seen), self.text_states(token_ids, is_word), is_word, whole=False)
        with torch.autocast(x.device.type, enabled=False):
            similarities = joined.ecg_vectors.float() @ joined.text_vectors.float().T
        return Predictions(
            words=self.mlm_head(joined.text[is_masked]),
            ecg=self.mim_head(joined.partly, order),
            matching=self.itm_head(joined.vectors),
            similarities=similarities,
        )

    def text_states(self, token_ids: Tensor, is_word: Tensor | None = None) -> Tensor:
        """(B, M) -> (B, M, H). is_word: (B, M) bool, where tokens are no padding; None is everywhere."""
        attended = is_word if self.recipe.text_padding == "masked" else None
        return self.multi_modal_language_proj(self.language_encoder(token_ids, attended))

    def text_vectors(self, token_ids: Tensor, is_word: Tensor | None = None) -> Tensor:
        """Texts (B, M) -> (B, H), between -1 and 1: of the first token, as T5 has no class token."""
        return self.unimodal_language_pooler(self.text_states(token_ids, is_word))

    def join(self, ecg: Tensor, text: Tensor, is_word: Tensor, *, whole: bool = True) -> Joined:
        """States of ECGs (B, 1 + K, H) and texts (B, M, H), joined. whole: all of the ECG's last states, not just that
        of the class token.
        """
        vectors = {"ecg_vectors": self.unimodal_ecg_pooler(ecg), "text_vectors": self.unimodal_language_pooler(text)}
        modalities = self.modality_type_embeddings.weight.to(ecg.dtype)
        by = packing(is_word)
        ecg, text = ecg + modalities[ECG], packed(text + modalities[TEXT], by)
        last = self.recipe.joint_depth - 1
        after = last + 1 if self.recipe.reconstruct_after is None else self.recipe.reconstruct_after
        partly = ecg
        for place, (of_text, of_ecg) in enumerate(
            zip(self.multi_modal_language_layers, self.multi_modal_ecg_layers, strict=True)
        ):
            if place == after:
                partly = ecg
            # Both read the states before this layer. Of the ECG's last states only the first is used, unless it is
            # reconstructed from them.
            first_only = not whole and place == last and after <= last
            new_ecg = of_ecg(ecg, text, by=None, other_by=by, first_only=first_only)
            ecg, text = new_ecg, of_text(text, ecg, by=by, other_by=None)
        if after > last:
            partly = ecg
        text = padded(text, by)
        together = [self.multi_modal_language_pooler(text), self.multi_modal_ecg_pooler(ecg)]
        return Joined(text=text, ecg=ecg, partly=partly, vectors=torch.cat(together, dim=1), **vectors)


def d_beta_model(
    recipe: DBetaRecipe, *, vocabulary: int, rate: float, seed: int, text: Mapping[str, Tensor] | None = None
) -> DBetaModel:
    """A model to pretrain, initialised as by the authors. text: state of the text encoder, random by `seed` if None."""
    with seeded(seed):
        model = DBetaModel(recipe, vocabulary=vocabulary, rate=rate)
    if text is not None:
        load_exactly(model.language_encoder, text)
    return model
