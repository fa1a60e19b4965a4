"""D-BETA's pretraining composed of transformers' Wav2Vec2, T5, BERT and CLIP layers: the other side of the comparison
with our step."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from ecg_pipeline.bench.composed_waves import read_leads, wave_options
from ecg_pipeline.models.d_beta.network import DBetaModel
from ecg_pipeline.models.d_beta.objective import MaskedPairs
from ecg_pipeline.models.d_beta.recipes import DBetaRecipe

SDPA: dict[str, Any] = {"attn_implementation": "sdpa"}
NO_DROPOUT: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Obvious(nn.Module):
    """A copy of a network, composed of layers that transformers has. Words are predicted at all tokens, and all states
    of the last layers are computed.
    """

    waves: Any
    unimodal_ecg_pooler: nn.Module
    unimodal_language_pooler: nn.Module
    multi_modal_ecg_pooler: nn.Module
    multi_modal_language_pooler: nn.Module
    multi_modal_ecg_layers: nn.ModuleList
    multi_modal_language_layers: nn.ModuleList

    def __init__(self, network: DBetaModel, vocabulary: int):
        from transformers import BertConfig, CLIPVisionConfig, T5Config, T5EncoderModel
        from transformers.models.bert.modeling_bert import BertLayer, BertPooler, BertPredictionHeadTransform
        from transformers.models.clip.modeling_clip import CLIPEncoderLayer

        super().__init__()
        self.recipe = recipe = network.recipe
        self.waves = _wav2vec2(recipe)
        self.text = T5EncoderModel(
            T5Config(
                vocab_size=vocabulary,
                d_model=recipe.text_width,
                d_kv=recipe.text_head_width,
                d_ff=recipe.text_mlp_width,
                num_layers=recipe.text_depth,
                num_heads=recipe.text_heads,
                feed_forward_proj=recipe.text_activation,
                dropout_rate=0.0,
            )
        )
        bert = BertConfig(
            hidden_size=recipe.joint_width,
            num_attention_heads=recipe.joint_heads,
            intermediate_size=4 * recipe.joint_width,
            is_decoder=True,
            add_cross_attention=True,
            **NO_DROPOUT,
            **SDPA,
        )
        clip = CLIPVisionConfig(
            hidden_size=recipe.decoder_width,
            num_attention_heads=recipe.decoder_heads,
            intermediate_size=4 * recipe.decoder_width,
            hidden_act="quick_gelu",
            attention_dropout=0.0,
            **SDPA,
        )
        self.class_embedding = nn.Parameter(torch.empty(recipe.width))
        self.multi_modal_ecg_proj = nn.Linear(recipe.width, recipe.joint_width)
        self.multi_modal_language_proj = nn.Linear(recipe.text_width, recipe.joint_width)
        for of in ("ecg", "language"):
            setattr(self, f"unimodal_{of}_pooler", BertPooler(bert))
            setattr(self, f"multi_modal_{of}_pooler", BertPooler(bert))
            layers = nn.ModuleList(BertLayer(bert) for _ in range(recipe.joint_depth))
            setattr(self, f"multi_modal_{of}_layers", layers)
        self.modality_type_embeddings = nn.Embedding(2, recipe.joint_width)
        self.transform = BertPredictionHeadTransform(bert)
        self.words = nn.Linear(recipe.joint_width, vocabulary)
        self.itm_head = nn.Linear(2 * recipe.joint_width, 2)
        self.mask_token = nn.Parameter(torch.empty(1, 1, recipe.decoder_width))
        self.decoder_embed = nn.Linear(recipe.joint_width, recipe.decoder_width)
        self.decoder = nn.ModuleList(CLIPEncoderLayer(clip) for _ in range(recipe.decoder_depth))
        self.decoder_norm = nn.LayerNorm(recipe.decoder_width)
        self.decoder_pred = nn.Linear(recipe.decoder_width, recipe.ecg_shape.leads * recipe.samples_per_token)
        self.positions: Tensor = network.state_dict()["mim_head.decoder_pos_embed.pe"]
        self.load_state_dict(dict(_renamed(network)))

    def forward(self, group: MaskedPairs) -> Tensor:
        """The sum of the four losses."""
        ecg, target = self._ecg(group)
        mask = group.is_word.long()
        text = self.text(group.token_ids, attention_mask=mask).last_hidden_state
        text, ecg = self.multi_modal_language_proj(text), self.multi_modal_ecg_proj(ecg)
        similarities = self.unimodal_ecg_pooler(ecg) @ self.unimodal_language_pooler(text).T
        signs = 2 * torch.diag(group.is_aligned.float()) - 1
        pairs = -logsigmoid(signs * similarities).mean()
        text = text + self.modality_type_embeddings.weight[0]
        ecg = ecg + self.modality_type_embeddings.weight[1]
        of_text = (1.0 - mask[:, None, None, :]) * torch.finfo(text.dtype).min
        of_ecg = torch.zeros(len(ecg), 1, 1, ecg.shape[1])
        partly = ecg
        for place, (text_layer, ecg_layer) in enumerate(
            zip(self.multi_modal_language_layers, self.multi_modal_ecg_layers, strict=True)
        ):
            if place == self.recipe.reconstruct_after:
                partly = ecg
            new_text = text_layer(text, of_text, ecg, of_ecg)
            ecg = ecg_layer(ecg, of_ecg, text, of_text)
            text = new_text
        vectors = [self.multi_modal_language_pooler(text), self.multi_modal_ecg_pooler(ecg)]
        matching = cross_entropy(self.itm_head(torch.cat(vectors, dim=1)), group.is_aligned.long())
        words = cross_entropy(self.words(self.transform(text)).flatten(0, 1), group.labels.flatten())
        return words + self._reconstruction(partly, target, group) + matching + pairs

    def _ecg(self, group: MaskedPairs) -> tuple[Tensor, Tensor]:
        """States of the class token and the kept tokens, and the standardised ECG by tokens (B, N, L * samples)."""
        hidden, _ = self.waves.feature_projection(self._features(group.x).transpose(1, 2))
        hidden = hidden + self.waves.encoder.pos_conv_embed(hidden)
        kept = group.order[:, : group.kept]
        hidden = torch.stack([tokens[places] for tokens, places in zip(hidden, kept, strict=True)])
        hidden = torch.cat([self.class_embedding.repeat(len(hidden), 1, 1), hidden], dim=1)
        hidden = self.waves.encoder.layer_norm(hidden)
        for layer in self.waves.encoder.layers:
            hidden = layer(hidden)
        tokens, samples = group.order.shape[1], self.recipe.samples_per_token
        x = group.x[..., : tokens * samples]
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6).sqrt()
        return hidden, x.reshape(len(x), -1, tokens, samples).permute(0, 2, 1, 3).flatten(2)

    def _features(self, x: Tensor) -> Tensor:
        for layer in self.waves.feature_extractor.conv_layers:
            x = layer(x)
        return x

    def _reconstruction(self, partly: Tensor, target: Tensor, group: MaskedPairs) -> Tensor:
        x = self.decoder_embed(partly)
        removed = self.mask_token.repeat(len(x), target.shape[1] - group.kept, 1)
        restore = group.order.argsort(dim=1)
        whole = torch.cat([x[:, 1:], removed], dim=1)
        whole = torch.gather(whole, 1, restore[..., None].repeat(1, 1, whole.shape[2]))
        y = torch.cat([x[:, :1], whole], dim=1) + self.positions[:, : 1 + whole.shape[1]]
        for layer in self.decoder:
            y = layer(y, None)
        predicted = self.decoder_pred(self.decoder_norm(y))[:, 1:]
        mask = (restore >= group.kept).float()
        return (((predicted - target) ** 2).mean(dim=-1) * mask).sum() / mask.sum()


def _wav2vec2(recipe: DBetaRecipe) -> nn.Module:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    shape = recipe.ecg_shape
    model = Wav2Vec2Model(Wav2Vec2Config(**wave_options(shape), mask_time_prob=0.0, **SDPA))
    read_leads(model, shape)
    return model


def _renamed(network: DBetaModel) -> Iterator[tuple[str, Tensor]]:
    """Our weights under the names of `Obvious`."""
    of_waves = {
        "self_attn_layer_norm": "layer_norm",
        "self_attn": "attention",
        "fc1": "feed_forward.intermediate_dense",
        "fc2": "feed_forward.output_dense",
        "conv_pos.pos_conv.0": "encoder.pos_conv_embed.conv",
        "post_extract_proj": "feature_projection.projection",
    }
    of_decoder = {"attn.out_proj": "self_attn.out_proj", "ln_": "layer_norm", "c_fc": "fc1", "c_proj": "fc2"}
    heads = {
        "mim_head.": "",
        "mlm_head.transform.": "transform.",
        "mlm_head.decoder.": "words.",
        "mlm_head.bias": "words.bias",
        "itm_head.fc.": "itm_head.",
        "language_encoder.": "text.",
    }
    for name, tensor in network.state_dict().items():
        if name.startswith("ecg_encoder."):
            name = name.removeprefix("ecg_encoder.")
            if name.startswith("layer_norm"):
                name = f"feature_projection.{name}"
            if "conv_layers" in name:
                name = name.replace(".0.2.", ".0.layer_norm.").replace(".0.weight", ".conv.weight")
            yield f"waves.{_replaced(name, of_waves)}", tensor
        elif "in_proj" in name:
            layer, of = name.removeprefix("mim_head.decoder.resblocks.").split(".attn.in_proj_")
            for part, one in zip("qkv", tensor.chunk(3), strict=True):
                yield f"decoder.{layer}.self_attn.{part}_proj.{of}", one
        elif "resblocks" in name:
            yield _replaced(name.removeprefix("mim_head.").replace("resblocks.", ""), of_decoder), tensor
        elif not name.endswith("pos_embed.pe"):
            yield _replaced(name, heads), tensor
            if name == "language_encoder.shared.weight":
                yield "text.encoder.embed_tokens.weight", tensor


def _replaced(name: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        name = name.replace(ours, theirs, 1)
    return name
