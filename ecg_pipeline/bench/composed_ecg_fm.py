"""ECG-FM's pretraining composed of transformers' Wav2Vec2 blocks, the other side of the comparison with our step."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from ecg_pipeline.bench.composed_waves import read_leads, wave_options
from ecg_pipeline.models.ecg_fm.network import EcgFmModel
from ecg_pipeline.models.ecg_fm.objective import MaskedSegments
from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe


class OnAllFrames:
    """A group whose noise and negatives are those of all frames, as transformers expects; those of the frames that are
    not masked are 0 and count in no loss. negatives (B, T, N) are places among all B x T frames.
    """

    def __init__(self, group: MaskedSegments, recipe: EcgFmRecipe):
        self.segments, self.mask, self.gumbel_temperature = group.segments, group.mask, group.gumbel_temperature
        count, masked, negatives = group.negatives.shape
        frames = self.mask.shape[1]
        places = self.mask.nonzero()[:, 1].view(count, masked)
        places = places.gather(1, group.negatives.flatten(1)).view_as(group.negatives)
        self.negatives = torch.zeros(count, frames, negatives, dtype=torch.long)
        self.negatives[self.mask] = places.flatten(0, 1)
        self.negatives += frames * torch.arange(count)[:, None, None]
        torch.manual_seed(group.seed)
        noise = -torch.empty(count, masked, recipe.codebooks, recipe.codes).exponential_().log()
        self.noise = torch.zeros(count, frames, recipe.codebooks, recipe.codes)
        self.noise[self.mask] = noise.flatten(0, 1)


class Obvious(nn.Module):
    """A copy of a network, composed as `Wav2Vec2ForPreTraining` composes its parts; the first convolution reads leads,
    the noise is given, and equal targets are told by their codes. The losses beside the contrast are ECG-FM's.
    """

    def __init__(self, network: EcgFmModel, recipe: EcgFmRecipe, pretraining: EcgFmPretraining):
        from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

        super().__init__()
        self.pretraining, self.books = pretraining, (recipe.codebooks, recipe.codes)
        self.parts = Wav2Vec2ForPreTraining(
            Wav2Vec2Config(
                **wave_options(recipe.shape),
                num_codevectors_per_group=recipe.codes,
                num_codevector_groups=recipe.codebooks,
                codevector_dim=recipe.quantised_width,
                proj_codevector_dim=recipe.contrast_width,
            )
        )
        read_leads(self.parts.wav2vec2, recipe.shape)
        self.parts.load_state_dict(dict(_renamed(network)))

    def forward(self, batch: OnAllFrames) -> Tensor:
        """The loss in nats a masked frame."""
        parts, recipe, mask = self.parts, self.pretraining, batch.mask
        features = batch.segments
        for layer in parts.wav2vec2.feature_extractor.conv_layers:
            features = layer(features)
        features.register_hook(lambda gradient: gradient * recipe.feature_grad_mult)
        hidden, frames = parts.wav2vec2.feature_projection(features.transpose(1, 2))
        hidden[mask] = parts.wav2vec2.masked_spec_embed
        context = parts.wav2vec2.encoder(hidden).last_hidden_state
        vectors, codes, perplexity = self._quantise(frames, batch)
        logits = gathered_logits(
            parts.project_hid(context),
            parts.project_q(vectors),
            codes=codes,
            negatives=batch.negatives,
            temperature=recipe.temperature,
        )
        right = (~mask).long() * -100  # of the other frames, which cross_entropy leaves out
        size = self.books[0] * self.books[1]
        return (
            cross_entropy(logits.flatten(1).T, right.flatten())
            + recipe.diversity_weight * (size - perplexity) / size
            + recipe.penalty_weight * features.pow(2).mean()
            + recipe.cmsc_weight * _cmsc(context, recipe.cmsc_temperature)
        )

    def _quantise(self, frames: Tensor, batch: OnAllFrames) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors (B, T, D) and codes (B, T) of all frames; perplexity of the masked ones."""
        quantizer = self.parts.quantizer
        logits = quantizer.weight_proj(frames).unflatten(-1, self.books)
        soft = ((logits + batch.noise) / batch.gumbel_temperature).softmax(dim=-1)
        codes = soft.argmax(dim=-1, keepdim=True)
        hard = torch.zeros_like(soft).scatter_(-1, codes, 1.0)
        chosen = (hard - soft.detach() + soft).flatten(0, 1).flatten(1)
        vectors = (chosen[..., None] * quantizer.codevectors).unflatten(1, self.books).sum(dim=2)
        mean = logits.softmax(dim=-1)[batch.mask].mean(dim=0)
        perplexity = (-(mean * (mean + 1e-7).log()).sum(dim=-1)).exp().sum()
        joint = codes[..., 0] @ (self.books[1] ** torch.arange(self.books[0]))
        return vectors.flatten(1).unflatten(0, frames.shape[:2]), joint, perplexity


def gathered_logits(
    context: Tensor, targets: Tensor, *, codes: Tensor, negatives: Tensor, temperature: float
) -> Tensor:
    """The logits of `contrast.frame_logits` by copies of the negatives' vectors, the own target first: (1 + N, B, T).

    context, targets: (B, T, D). negatives: (B, T, N), places among all B x T targets.
    """
    others = targets.flatten(0, 1)[negatives.flatten()].unflatten(0, negatives.shape).permute(2, 0, 1, 3)
    logits = cosine_similarity(context, torch.cat([targets[None], others]), dim=-1) / temperature
    is_same = (codes.flatten()[negatives] == codes[..., None]).permute(2, 0, 1)
    return torch.cat([logits[:1], logits[1:].masked_fill(is_same, float("-inf"))])


def _cmsc(context: Tensor, temperature: float) -> Tensor:
    segments = context.mean(dim=1)
    segments = segments / segments.norm(dim=1, keepdim=True).detach()
    logits = segments[0::2] @ segments[1::2].T / temperature
    pairs = torch.arange(len(logits))
    return (cross_entropy(logits, pairs) + cross_entropy(logits.T, pairs)) / 2


def _renamed(network: EcgFmModel) -> Iterator[tuple[str, Tensor]]:
    """Our weights under transformers' names."""
    names = {
        "encoder.": "wav2vec2.encoder.",
        "self_attn_layer_norm": "layer_norm",
        "self_attn": "attention",
        "fc1": "feed_forward.intermediate_dense",
        "fc2": "feed_forward.output_dense",
        "feature_extractor": "wav2vec2.feature_extractor",
        "conv_pos.pos_conv.0": "wav2vec2.encoder.pos_conv_embed.conv",
        "post_extract_proj": "wav2vec2.feature_projection.projection",
        "mask_emb": "wav2vec2.masked_spec_embed",
        "quantizer.vars": "quantizer.codevectors",
        "final_proj": "project_hid",
    }
    for name, tensor in network.state_dict().items():
        if name.startswith("layer_norm"):
            name = f"wav2vec2.feature_projection.{name}"
        for ours, theirs in names.items():
            name = name.replace(ours, theirs, 1)
        if "conv_layers" in name:
            name = name.replace(".0.2.", ".0.layer_norm.")
            name = name.replace(".0.weight", ".conv.weight").replace(".0.bias", ".conv.bias")
        yield name, tensor
