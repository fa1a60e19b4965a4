"""Writes D-BETA's fixtures from the plain reference."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecg_pipeline_tests.conformance.reference import fill_rule
from ecg_pipeline_tests.conformance.reference.d_beta import (
    Net,
    State,
    cross_entropy,
    ecg_layout,
    layout,
    pairs,
    positions,
    target,
)
from ecg_pipeline_tests.conformance.reference.ecg_fm_states import single, under
from ecg_pipeline_tests.conformance.reference.write import Files

CONFIG: dict[str, Any] = {
    "encoder_layers": 3,
    "encoder_embed_dim": 36,
    "encoder_ffn_embed_dim": 50,
    "encoder_attention_heads": 3,
    "layer_norm_first": False,
    "lead_masking": 0.4,
    "in_d": 12,
    "conv_bias": False,
    "conv_feature_layers": "[(14, 2, 2)] + [(20, 2, 2)] * 2",
    "convolutions": [14, 20, 20],
    "conv_pos": 7,
    "conv_pos_groups": 6,
    "vocab_size": 61,
    "hidden_dim": 32,
    "num_heads": 2,
    "num_top_layer": 3,
    "mem_layer": 1,
    "mem_prob": 0.6,
    "mem_decoder_hidden_dim": 20,
    "mem_decoder_num_layers": 2,
    "mem_decoder_num_heads": 2,
}
T5 = {
    "vocab_size": 61,
    "d_model": 28,
    "d_kv": 6,
    "d_ff": 45,
    "num_layers": 3,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
}
GRADIENTS = (
    "class_embedding",
    "ecg_encoder.conv_pos.pos_conv.0.weight_g",
    "ecg_encoder.feature_extractor.conv_layers.1.0.weight",
    "language_encoder.shared.weight",
    "language_encoder.encoder.block.1.layer.1.DenseReluDense.wi_0.weight",
    "mim_head.mask_token",
    "mlm_head.bias",
    "modality_type_embeddings.weight",
    "multi_modal_ecg_layers.0.crossattention.self.query.weight",
    "multi_modal_language_layers.1.output.LayerNorm.weight",
    "unimodal_language_pooler.dense.weight",
)
LENGTHS, SAMPLES = [17, 30, 9, 24], 203


def write_d_beta(files: Files, *, seed: int) -> None:
    """The kind dbeta_small."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: _random(name, shape, generator) for name, shape in layout(CONFIG, T5).items()}
    given = _inputs(generator)
    tensors = under("sd.", state) | given
    tensors["sd.language_encoder.encoder.embed_tokens.weight"] = state["language_encoder.shared.weight"]
    tensors["sd.mim_head.decoder_pos_embed.pe"] = positions(512, CONFIG["mem_decoder_hidden_dim"]).float()[None]
    own = {name: tensor.double().requires_grad_() for name, tensor in state.items()}
    net, facts = Net(CONFIG, own, T5), {"config": CONFIG, "t5_config": T5, "lens": LENGTHS, "params_without_grad": []}
    ecg = given["ecg"].double()
    front = net.front(ecg)
    tokens = front["embeddings"]
    facts["tokens"] = tokens.shape[1]
    tensors |= under("emb.", front)
    stages = {name: tensor for name, tensor in front.items() if name != "embeddings"}
    order = given["mask_noise"].argsort(dim=1)
    kept = int(tokens.shape[1] * (1 - CONFIG["mem_prob"]))
    everything = torch.arange(tokens.shape[1]).expand(len(tokens), -1)
    restore = order.argsort(dim=1)
    for prefix, seen in (("nomask.", everything), ("masked.", order[:, :kept])):
        states, between = net.encode(torch.stack([row[places] for row, places in zip(tokens, seen, strict=True)]))
        text, t5_hidden = net.read(given["text"])
        joined = net.join(states, text, given["text_attention_mask"])
        before = f"_{CONFIG['mem_layer']}"
        found = {name: tensor for name, tensor in joined.items() if not name[-1].isdigit() or name.endswith(before)}
        found |= between | {"t5_last_hidden": t5_hidden, "etm_logits": net.matched(joined["multi_modal_cls_feats"])}
        if prefix == "masked.":
            logits, decoded = net.reconstruct(joined[f"multi_modal_ecg_feats{before}"], restore)
            found |= {"mem_logits": logits, "mem_decoder_out_TBC": decoded.transpose(0, 1), "mem_ids_restore": restore}
            found |= {"mem_masks": (restore >= kept).float(), "mlm_logits": net.words(joined["multi_modal_text_feats"])}
        tensors |= under(prefix, stages | found)
    losses, targets = _losses(found, given, kept=kept, restore=restore)
    tensors |= targets
    losses["masked_npl1"]["total"].backward()
    facts["grad_norm_total"] = float(sum(tensor.grad.square().sum() for tensor in own.values()) ** 0.5)
    tensors |= under("grad.", {name: own[name].grad for name in GRADIENTS})
    facts["losses"] = {
        case: {k: float(torch.as_tensor(v).detach()) for k, v in terms.items()} for case, terms in losses.items()
    }
    vectors = (
        net.pooled_ecg(ecg),
        torch.stack([net.pooled_text(ids[:length]) for ids, length in zip(given["text"], LENGTHS, strict=True)]),
    )
    tensors |= {"infer.ecg_pooled": vectors[0], "infer.text_pooled_unpadded": vectors[1]}
    tensors["infer.similarity"] = vectors[0] @ vectors[1].T
    files.write("dbeta_small", facts | _contrast_and_leads(generator, tensors), single(tensors))


def write_d_beta_full_size(files: Files, *, salt: int, input_seed: int) -> None:
    """The kind dbeta_ecg_fullsize, in another size, with another rule. 5,000 samples, as the published one."""
    config = CONFIG | {"encoder_layers": 2, "conv_feature_layers": "[(14, 2, 2)] * 4", "convolutions": [14] * 4}
    shapes = ecg_layout(config)
    state = {name: torch.from_numpy(fill_rule.fill(name, shape, salt)) for name, shape in shapes.items()}
    net = Net(config, {name: tensor.double() for name, tensor in state.items()})
    x = torch.from_numpy(fill_rule.signal((2, 12, 5000), input_seed)).double()
    tokens, pooled = net.front(x)["embeddings"], net.pooled_ecg(x)
    tensors = {"embeddings_first4": tokens[:, :4], "embeddings_last4": tokens[:, -4:], "pooled": pooled}
    facts = {
        "config": config,
        "salt": salt,
        "input_seed": input_seed,
        "tokens": tokens.shape[1],
        "layout": shapes,
        "param_count": sum(tensor.numel() for tensor in state.values()),
        "max_change_when_input_times_7_5": float((net.pooled_ecg(7.5 * x) - pooled).abs().max()),
    }
    files.write("dbeta_ecg_fullsize", facts, single(tensors))
    (files.folder / "fill_rule.py").write_text(Path(fill_rule.__file__).read_text())


def _inputs(generator: torch.Generator) -> State:
    count, longest = len(LENGTHS), max(LENGTHS) + 2
    text = torch.randint(3, T5["vocab_size"], (count, longest), generator=generator)
    is_word = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    text[~is_word] = 0
    text[torch.arange(count), torch.tensor(LENGTHS) - 1] = 1
    is_masked = is_word & (torch.rand(text.shape, generator=generator) < 0.3)
    labels = torch.where(is_masked, torch.randint(3, T5["vocab_size"], text.shape, generator=generator), -100)
    ecg = torch.randn(count, 12, SAMPLES, generator=generator)
    ecg[1, 3] = 0  # a lead that was lost
    return {
        "ecg": ecg,
        "text": text,
        "text_attention_mask": is_word,
        "mlm_labels": labels,
        "is_aligned": torch.tensor([1.0, 1.0, 0.0, 1.0]),
        "mask_noise": torch.rand(count, SAMPLES // 8, generator=generator),
    }


def _losses(found: State, given: State, *, kept: int, restore: Tensor) -> tuple[dict[str, dict[str, Any]], State]:
    aligned, labels = given["is_aligned"], given["mlm_labels"].flatten()
    words, matched = found["mlm_logits"].flatten(0, 1), found["etm_logits"]
    terms: dict[str, Any] = {
        "mlm": cross_entropy(words, labels),
        "etm": cross_entropy(matched, aligned.long()),
        "ets": pairs(found["uni_modal_ecg_feats"], found["uni_modal_text_feats"], aligned),
        "mlm_correct": int((words.argmax(dim=1) == labels).sum()),
        "mlm_count": int((labels != -100).sum()),
        "etm_correct": int((matched.argmax(dim=1) == aligned).sum()),
        "etm_count": len(aligned),
    }
    removed, losses, targets = restore >= kept, {}, {}
    for case, standardised in (("masked_npl0", False), ("masked_npl1", True)):
        wanted = target(
            given["ecg"].double(), restore.shape[1], found["mem_logits"].shape[3], standardised=standardised
        )
        error = (found["mem_logits"].flatten(2) - wanted).square().mean(dim=2)
        mem = (error * removed).sum() / removed.sum()
        losses[case] = terms | {"mem": mem, "total": terms["mlm"] + mem + terms["etm"] + terms["ets"]}
        targets[f"{case}.mem_target"] = wanted
    return losses, targets


def _contrast_and_leads(generator: torch.Generator, tensors: State) -> dict[str, Any]:
    ecg, text = (torch.randn(4, 6, generator=generator, dtype=torch.float64).tanh() for _ in range(2))
    tensors |= {"ets.ecg": ecg, "ets.text": text}
    cases = []
    for labels, scale, bias in (([1, 1, 1, 1], 1.0, None), ([0, 1, 0, 1], 1.0, None), ([1, 0, 1, 1], 3.0, -0.5)):
        loss = pairs(ecg, text, torch.tensor(labels), scale=scale, bias=bias or 0.0)
        cases.append({"labels": labels, "logit_scale": scale, "bias": bias, "loss": float(loss)})
    leads = []
    for seed in (3, 4, 5):
        random = np.random.RandomState(seed)
        random.uniform()
        surviving = [int(random.uniform() >= CONFIG["lead_masking"]) for _ in range(12)]
        leads.append({"numpy_legacy_seed": seed, "surviving": surviving})
    return {"ets_cases": cases, "lead_mask": leads}


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if len(shape) > 1 and name != "mim_head.mask_token":
        return values / (shape[-1] * (shape[-2] if len(shape) == 3 else 1)) ** 0.5
    is_scale = name.endswith(("norm.weight", "Norm.weight", ".0.2.weight", "ln_1.weight", "ln_2.weight"))
    return (1.0 if is_scale else 0.0) + 0.2 * values
