"""D-BETA without modules: attention written out by head, convolutions as sums over taps, losses as sums over pairs."""

from dataclasses import dataclass
from math import cos, log, pi, sin, sqrt
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


def layout(config: dict[str, Any], t5: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes by official name, without the table of positions."""
    width, hidden, decoder = config["encoder_embed_dim"], config["hidden_dim"], config["mem_decoder_hidden_dim"]
    shapes = ecg_layout(config)
    shapes |= _linear("multi_modal_language_proj", hidden, t5["d_model"])
    for pooler in ("unimodal_language", "multi_modal_language", "multi_modal_ecg"):
        shapes |= _linear(f"{pooler}_pooler.dense", hidden, hidden)
    shapes["modality_type_embeddings.weight"] = (2, hidden)
    for place in range(config["num_top_layer"]):
        for modality in ("language", "ecg"):
            name = f"multi_modal_{modality}_layers.{place}"
            for attention in ("attention", "crossattention"):
                for part in ("self.query", "self.key", "self.value", "output.dense"):
                    shapes |= _linear(f"{name}.{attention}.{part}", hidden, hidden)
                shapes |= _norm(f"{name}.{attention}.output.LayerNorm", hidden)
            shapes |= _linear(f"{name}.intermediate.dense", 4 * hidden, hidden)
            shapes |= _linear(f"{name}.output.dense", hidden, 4 * hidden) | _norm(f"{name}.output.LayerNorm", hidden)
    shapes |= {"mlm_head.bias": (config["vocab_size"],), "mlm_head.decoder.weight": (config["vocab_size"], hidden)}
    shapes |= _linear("mlm_head.transform.dense", hidden, hidden) | _norm("mlm_head.transform.LayerNorm", hidden)
    shapes |= _linear("itm_head.fc", 2, 2 * hidden)
    shapes |= {"mim_head.mask_token": (1, 1, decoder)} | _linear("mim_head.decoder_embed", decoder, hidden)
    for place in range(config["mem_decoder_num_layers"]):
        name = f"mim_head.decoder.resblocks.{place}"
        shapes |= {f"{name}.attn.in_proj_weight": (3 * decoder, decoder), f"{name}.attn.in_proj_bias": (3 * decoder,)}
        shapes |= _linear(f"{name}.attn.out_proj", decoder, decoder) | _norm(f"{name}.ln_1", decoder)
        shapes |= _norm(f"{name}.ln_2", decoder) | _linear(f"{name}.mlp.c_fc", 4 * decoder, decoder)
        shapes |= _linear(f"{name}.mlp.c_proj", decoder, 4 * decoder)
    patch = 12 * 2 ** len(config["convolutions"])
    shapes |= _norm("mim_head.decoder_norm", decoder) | _linear("mim_head.decoder_pred", patch, decoder)
    text, inner = "language_encoder.", t5["num_heads"] * t5["d_kv"]
    shapes[f"{text}shared.weight"] = (t5["vocab_size"], t5["d_model"])
    for place in range(t5["num_layers"]):
        attention, mlp = (f"{text}encoder.block.{place}.layer.{sub}." for sub in (0, 1))
        shapes |= {f"{attention}SelfAttention.{part}.weight": (inner, t5["d_model"]) for part in "qkv"}
        shapes[f"{attention}SelfAttention.o.weight"] = (t5["d_model"], inner)
        if place == 0:
            shapes[f"{attention}SelfAttention.relative_attention_bias.weight"] = (32, t5["num_heads"])
        shapes |= {f"{mlp}DenseReluDense.{part}.weight": (t5["d_ff"], t5["d_model"]) for part in ("wi_0", "wi_1")}
        shapes[f"{mlp}DenseReluDense.wo.weight"] = (t5["d_model"], t5["d_ff"])
        shapes |= {f"{sub}layer_norm.weight": (t5["d_model"],) for sub in (attention, mlp)}
    shapes[f"{text}encoder.final_layer_norm.weight"] = (t5["d_model"],)
    assert width % config["conv_pos_groups"] == 0
    return shapes


def ecg_layout(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of what an ECG goes through alone."""
    width, inputs, encoder = config["encoder_embed_dim"], 12, "ecg_encoder."
    shapes: dict[str, tuple[int, ...]] = {"class_embedding": (width,)}
    for place, channels in enumerate(config["convolutions"]):
        shapes[f"{encoder}feature_extractor.conv_layers.{place}.0.weight"] = (channels, inputs, 2)
        if place == 0:
            shapes |= _norm(f"{encoder}feature_extractor.conv_layers.0.2", channels)
        inputs = channels
    shapes |= _norm(f"{encoder}layer_norm", inputs) | _linear(f"{encoder}post_extract_proj", width, inputs)
    position, kernel = f"{encoder}conv_pos.pos_conv.0.", config["conv_pos"]
    shapes |= {f"{position}bias": (width,), f"{position}weight_g": (1, 1, kernel)}
    shapes[f"{position}weight_v"] = (width, width // config["conv_pos_groups"], kernel)
    shapes |= _norm(f"{encoder}encoder.layer_norm", width)
    for place in range(config["encoder_layers"]):
        name = f"{encoder}encoder.layers.{place}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{name}self_attn.{part}", width, width)
        shapes |= _linear(f"{name}fc1", config["encoder_ffn_embed_dim"], width)
        shapes |= _linear(f"{name}fc2", width, config["encoder_ffn_embed_dim"])
        shapes |= _norm(f"{name}self_attn_layer_norm", width) | _norm(f"{name}final_layer_norm", width)
    hidden = config["hidden_dim"]
    return (
        shapes | _linear("multi_modal_ecg_proj", hidden, width) | _linear("unimodal_ecg_pooler.dense", hidden, hidden)
    )


@dataclass
class Net:
    """A network in eval mode. config: official options, and `convolutions`, the channels of each, which halve time."""

    config: dict[str, Any]
    state: State
    t5: dict[str, Any] | None = None

    def front(self, x: Tensor) -> State:
        """(B, 12, T) -> every stage up to the tokens with their position."""
        for place in range(len(self.config["convolutions"])):
            weight = self.state[f"ecg_encoder.feature_extractor.conv_layers.{place}.0.weight"]
            half = x.shape[2] // 2
            even, odd = x[:, :, 0 : 2 * half : 2], x[:, :, 1 : 2 * half : 2]
            x = torch.einsum("bct,oc->bot", even, weight[:, :, 0]) + torch.einsum("bct,oc->bot", odd, weight[:, :, 1])
            if place == 0:
                x = self._norm(x, "ecg_encoder.feature_extractor.conv_layers.0.2", axis=2, scale_axis=1)
            x = gelu(x)
        tokens = self._norm(x.transpose(1, 2), "ecg_encoder.layer_norm")
        projected = self._linear(tokens, "ecg_encoder.post_extract_proj")
        position = self._position(projected)
        stages = {"conv_features": x, "conv_features_ln": tokens, "projected": projected, "conv_pos_out": position}
        return stages | {"embeddings": projected + position}

    def _position(self, x: Tensor) -> Tensor:
        name, kernel = "ecg_encoder.conv_pos.pos_conv.0.", self.config["conv_pos"]
        v, g, groups = self.state[f"{name}weight_v"], self.state[f"{name}weight_g"], self.config["conv_pos_groups"]
        weight = v * g / v.square().sum(dim=(0, 1), keepdim=True).sqrt()
        tokens = x.shape[1]
        padded = torch.nn.functional.pad(x, (0, 0, kernel // 2, kernel // 2))
        y = torch.zeros_like(x)
        for tap in range(kernel):
            inputs = padded[:, tap : tap + tokens].unflatten(2, (groups, -1))
            y = y + torch.einsum("btgi,goi->btgo", inputs, weight[:, :, tap].unflatten(0, (groups, -1))).flatten(2)
        return gelu(y + self.state[f"{name}bias"])

    def encode(self, tokens: Tensor) -> tuple[Tensor, State]:
        """Tokens (B, K, D) -> states (B, 1 + K, H), and what lies between."""
        x = torch.cat([self.state["class_embedding"].expand(len(tokens), 1, -1), tokens], dim=1)
        x = self._norm(x, "ecg_encoder.encoder.layer_norm")
        between = {}
        for place in range(self.config["encoder_layers"]):
            name = f"ecg_encoder.encoder.layers.{place}."
            names = [f"{name}self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj")]
            y = self._attend(x, x, names, self.config["encoder_attention_heads"])
            x = self._norm(x + self._linear(y, f"{name}self_attn.out_proj"), f"{name}self_attn_layer_norm")
            y = self._linear(gelu(self._linear(x, f"{name}fc1")), f"{name}fc2")
            x = self._norm(x + y, f"{name}final_layer_norm")
            between[f"enc_layer{place}_TBC"] = x.transpose(0, 1)
        return self._linear(x, "multi_modal_ecg_proj"), between | {"encoder_out": x}

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids (B, M) -> states (B, M, H), and T5's own. Nothing is padding to it."""
        assert self.t5 is not None
        name = "language_encoder."
        x = self.state[f"{name}shared.weight"][ids]
        table = self.state[f"{name}encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        places = range(ids.shape[1])
        bias = torch.stack([torch.stack([table[bucket(key - query)] for key in places]) for query in places])
        for place in range(self.t5["num_layers"]):
            attention, mlp = (f"{name}encoder.block.{place}.layer.{sub}." for sub in (0, 1))
            y = self._rms(x, f"{attention}layer_norm")
            q, k, v = (
                (y @ self.state[f"{attention}SelfAttention.{part}.weight"].T).unflatten(2, (self.t5["num_heads"], -1))
                for part in "qkv"
            )
            logits = torch.einsum("bqhd,bkhd->bhqk", q, k) + bias.permute(2, 0, 1)
            y = torch.einsum("bhqk,bkhd->bqhd", softmax(logits), v).flatten(2)
            x = x + y @ self.state[f"{attention}SelfAttention.o.weight"].T
            y = self._rms(x, f"{mlp}layer_norm")
            weights = [self.state[f"{mlp}DenseReluDense.{part}.weight"].T for part in ("wi_0", "wi_1", "wo")]
            x = x + (tanh_gelu(y @ weights[0]) * (y @ weights[1])) @ weights[2]
        x = self._rms(x, f"{name}encoder.final_layer_norm")
        return self._linear(x, "multi_modal_language_proj"), x

    def join(self, ecg: Tensor, text: Tensor, is_word: Tensor) -> State:
        """States of both -> what the two become together, and the states before each step."""
        found = {
            "uni_modal_text_feats": self._pooled(text, "unimodal_language"),
            "uni_modal_ecg_feats": self._pooled(ecg, "unimodal_ecg"),
        }
        modality = self.state["modality_type_embeddings.weight"]
        text, ecg = text + modality[0], ecg + modality[1]
        everywhere = torch.ones(ecg.shape[:2], dtype=torch.bool)
        for place in range(self.config["num_top_layer"]):
            found |= {f"multi_modal_text_feats_{place}": text, f"multi_modal_ecg_feats_{place}": ecg}
            new_text = self._fuse(f"multi_modal_language_layers.{place}", text, ecg, is_word, everywhere)
            ecg = self._fuse(f"multi_modal_ecg_layers.{place}", ecg, text, everywhere, is_word)
            text = new_text
        vectors = [self._pooled(text, "multi_modal_language"), self._pooled(ecg, "multi_modal_ecg")]
        return found | {
            "multi_modal_text_feats": text,
            "multi_modal_ecg_feats": ecg,
            "multi_modal_cls_feats": torch.cat(vectors, dim=1),
        }

    def _fuse(self, name: str, x: Tensor, other: Tensor, counts: Tensor, other_counts: Tensor) -> Tensor:
        for attention, keys, which in (("attention", x, counts), ("crossattention", other, other_counts)):
            names = [f"{name}.{attention}.self.{part}" for part in ("query", "key", "value")]
            y = self._attend(x, keys, names, self.config["num_heads"], which)
            y = self._linear(y, f"{name}.{attention}.output.dense")
            x = self._norm(x + y, f"{name}.{attention}.output.LayerNorm", eps=1e-12)
        y = self._linear(gelu(self._linear(x, f"{name}.intermediate.dense")), f"{name}.output.dense")
        return self._norm(x + y, f"{name}.output.LayerNorm", eps=1e-12)

    def words(self, text: Tensor) -> Tensor:
        """States of a text -> logits of the vocabulary."""
        x = gelu(self._linear(text, "mlm_head.transform.dense"))
        x = self._norm(x, "mlm_head.transform.LayerNorm", eps=1e-12)
        return x @ self.state["mlm_head.decoder.weight"].T + self.state["mlm_head.bias"]

    def reconstruct(self, x: Tensor, restore: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, 1 + K, H) -> (B, N, 12, samples), and the decoder's own states. restore: (B, N)."""
        x = self._linear(x, "mim_head.decoder_embed")
        mask_token, rows = self.state["mim_head.mask_token"][0, 0], []
        for states, order in zip(x, restore, strict=True):
            seen = states[1:]
            tokens = [seen[place] if place < len(seen) else mask_token for place in order.tolist()]
            rows.append(torch.stack([states[0], *tokens]))
        y = torch.stack(rows)
        y = y + positions(y.shape[1], y.shape[2]).to(y)
        for place in range(self.config["mem_decoder_num_layers"]):
            name = f"mim_head.decoder.resblocks.{place}."
            z = self._norm(y, f"{name}ln_1")
            z = z @ self.state[f"{name}attn.in_proj_weight"].T + self.state[f"{name}attn.in_proj_bias"]
            z = attend(*z.chunk(3, dim=2), self.config["mem_decoder_num_heads"])
            y = y + self._linear(z, f"{name}attn.out_proj")
            z = self._linear(self._norm(y, f"{name}ln_2"), f"{name}mlp.c_fc")
            y = y + self._linear(z / (1 + torch.exp(-1.702 * z)), f"{name}mlp.c_proj")
        predicted = self._linear(self._norm(y, "mim_head.decoder_norm"), "mim_head.decoder_pred")
        return predicted[:, 1:].unflatten(2, (12, -1)), y

    def matched(self, vectors: Tensor) -> Tensor:
        """(B, 2 H) -> (B, 2)."""
        return self._linear(vectors, "itm_head.fc")

    def pooled_ecg(self, x: Tensor) -> Tensor:
        """(B, 12, T) -> (B, H)."""
        return self._pooled(self.encode(self.front(x)["embeddings"])[0], "unimodal_ecg")

    def pooled_text(self, ids: Tensor) -> Tensor:
        """One text (M,) -> (H,)."""
        return self._pooled(self.read(ids[None])[0], "unimodal_language")[0]

    def _attend(self, x: Tensor, others: Tensor, names: list[str], heads: int, counts: Tensor | None = None) -> Tensor:
        query, key, value = names
        return attend(self._linear(x, query), self._linear(others, key), self._linear(others, value), heads, counts)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def _norm(self, x: Tensor, name: str, *, axis: int = -1, scale_axis: int = -1, eps: float = 1e-5) -> Tensor:
        mean = x.mean(dim=axis, keepdim=True)
        x = (x - mean) / ((x - mean).square().mean(dim=axis, keepdim=True) + eps).sqrt()
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return x * weight + bias if scale_axis == -1 else x * weight[:, None] + bias[:, None]

    def _rms(self, x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * self.state[f"{name}.weight"]

    def _pooled(self, x: Tensor, name: str) -> Tensor:
        return torch.tanh(self._linear(x[:, 0], f"{name}_pooler.dense"))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, counts: Tensor | None = None) -> Tensor:
    """Attention, head by head. counts: (B, K) bool."""
    made = []
    for query, key, value in zip(q.chunk(heads, dim=2), k.chunk(heads, dim=2), v.chunk(heads, dim=2), strict=True):
        logits = query @ key.transpose(1, 2) / sqrt(query.shape[2])
        if counts is not None:
            logits = logits - 1e9 * (~counts[:, None, :])
        made.append(softmax(logits) @ value)
    return torch.cat(made, dim=2)


def softmax(logits: Tensor) -> Tensor:
    powers = torch.exp(logits - logits.amax(dim=-1, keepdim=True))
    return powers / powers.sum(dim=-1, keepdim=True)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / sqrt(2))) / 2


def tanh_gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2


def bucket(distance: int) -> int:
    """Bucket of the distance from a query to a key, of 32 up to 128 tokens."""
    far, after = abs(distance), 16 if distance > 0 else 0
    if far < 8:
        return after + far
    return after + min(15, 8 + int(log(far / 8) / log(128 / 8) * 8))


def positions(count: int, width: int) -> Tensor:
    """Sine and cosine of each position, one beside the other."""
    return torch.tensor(
        [
            [(sin, cos)[place % 2](at / 10000 ** ((place - place % 2) / width)) for place in range(width)]
            for at in range(count)
        ],
        dtype=torch.float64,
    )


def target(x: Tensor, tokens: int, samples: int, *, standardised: bool) -> Tensor:
    """What is to be reconstructed: (B, N, 12 * samples)."""
    x = x[:, :, : tokens * samples]
    if standardised:
        mean = x.sum(dim=2, keepdim=True) / x.shape[2]
        variance = (x - mean).square().sum(dim=2, keepdim=True) / (x.shape[2] - 1)
        x = (x - mean) / (variance + 1e-6).sqrt()
    rows = [x[:, :, place * samples : (place + 1) * samples].flatten(1) for place in range(tokens)]
    return torch.stack(rows, dim=1)


def pairs(ecg: Tensor, text: Tensor, labels: Tensor, *, scale: float = 1.0, bias: float = 0.0) -> Tensor:
    """The contrast of all pairs, one by one."""
    total, count = ecg.new_zeros(()), len(ecg)
    for one in range(count):
        for other in range(count):
            sign = 2 * float(labels[one]) - 1 if one == other else -1.0
            total = total + torch.log(1 + torch.exp(-sign * (scale * (ecg[one] * text[other]).sum() + bias)))
    return total / count**2


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the rows whose label is not -100."""
    kept = labels != -100
    logits, labels = logits[kept], labels[kept]
    highest = logits.amax(dim=1, keepdim=True)
    sums = highest[:, 0] + torch.exp(logits - highest).sum(dim=1).log()
    return (sums - logits[torch.arange(len(labels)), labels]).mean()


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
