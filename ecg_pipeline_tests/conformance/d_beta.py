"""Checks of D-BETA: both encoders, the layers that join them, losses with their gradients, vectors, what is random."""

import runpy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ecg_pipeline.models.d_beta.heads import position_table
from ecg_pipeline.models.d_beta.losses import pair_loss, reconstruction_target
from ecg_pipeline.models.d_beta.masking import NOT_PREDICTED, NegativeTexts, Words, leads_kept, order_tokens
from ecg_pipeline.models.d_beta.network import ECG_PATH, DBetaModel
from ecg_pipeline.models.d_beta.objective import TERMS, DBetaObjective, MaskedPairs, loss_terms
from ecg_pipeline.models.d_beta.recipes import TEXTS
from ecg_pipeline.models.d_beta.vectors import ecg_vectors, scores, text_vectors
from ecg_pipeline_tests.conformance.d_beta_options import network_of, pretraining_of
from ecg_pipeline_tests.conformance.fixtures import Fixture, close

WITHIN = 1e-5

FRONT_END = ("conv_features", "conv_features_ln", "projected", "conv_pos_out", "embeddings")

OF_WORDS = ("multi_modal_text_feats", "mlm_logits")
"""Beginnings of the names of what is compared at words alone: of padding nothing reads it, and it is not computed."""

OFFICIAL_TERMS = {"mlm": "words", "mem": "reconstruction", "etm": "matching", "ets": "pairs"}


def dbeta_small(fixture: Fixture) -> None:
    model = network_of(fixture.facts, fixture.named("sd."))
    table = fixture.tensors["sd.mim_head.decoder_pos_embed.pe"]
    close(position_table(*table.shape[1:])[None], table, 1e-4, "table of positions")
    with torch.no_grad():
        _front_end(fixture, model)
        _joined(fixture, model)
        _vectors(fixture, model)
    _masked(fixture, model)
    _contrast_and_leads(fixture)
    _replaced_texts(fixture, model)


def dbeta_ecg_fullsize(fixture: Fixture) -> None:
    """Weights and inputs come from the rule in the file `fill_rule.py` beside the fixture."""
    facts, rule = fixture.facts, runpy.run_path(str(fixture.path.with_name("fill_rule.py")))
    with torch.device("meta"):
        whole = network_of(facts)
    parameters = {name: p for name, p in whole.named_parameters() if name.startswith(ECG_PATH)}
    assert sum(parameter.numel() for parameter in parameters.values()) == facts["param_count"]
    assert {shape_key(name): list(p.shape) for name, p in parameters.items()} == facts["layout"]
    state = {
        name: torch.from_numpy(rule["fill"](shape_key(name), p.shape, facts["salt"])) for name, p in parameters.items()
    }
    model = whole.to_empty(device="cpu")
    model.load_state_dict(state, strict=False)
    x = rule["signal"]((2, 12, 5000), facts["input_seed"])
    with torch.no_grad():
        tokens = model.ecg_tokens(torch.from_numpy(x))
    assert tokens.shape[1] == facts["tokens"]
    close(tokens[:, :4], fixture.tensors["embeddings_first4"], WITHIN, "first embeddings")
    close(tokens[:, -4:], fixture.tensors["embeddings_last4"], WITHIN, "last embeddings")
    pooled = ecg_vectors(model, x)
    close(torch.from_numpy(pooled), fixture.tensors["pooled"], WITHIN, "pooled")
    change = np.abs(ecg_vectors(model, 7.5 * x) - pooled).max()
    assert change <= max(1e-4, 10 * facts["max_change_when_input_times_7_5"]), "a gain of all leads changes the vector"


def shape_key(name: str) -> str:
    """The authors' name of a weight of ours."""
    return name.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )


def _front_end(fixture: Fixture, model: DBetaModel) -> None:
    encoder, x = model.ecg_encoder, fixture.tensors["ecg"]
    features, frames = encoder.feature_extractor(x), encoder.frames(x)
    projected = encoder.project(frames)
    stages = (features, frames, projected, encoder.conv_pos(projected), model.ecg_tokens(x))
    assert features.shape[2] == fixture.facts["tokens"] == encoder.shape.frames(x.shape[2])
    for name, found in zip(FRONT_END, stages, strict=True):
        for prefix in ("emb", "nomask", "masked"):
            if prefix == "emb" or name != "embeddings":
                close(found, fixture.tensors[f"{prefix}.{name}"], WITHIN, f"{prefix} {name}")


def _joined(fixture: Fixture, model: DBetaModel) -> None:
    """The whole network, once with all tokens of the ECG, and once with those that are kept."""
    tensors = fixture.tensors
    order, kept = _order(fixture)
    tokens = model.ecg_tokens(tensors["ecg"])
    everything = torch.arange(tokens.shape[1]).expand(len(tokens), -1)
    for prefix, seen in (("nomask", everything), ("masked", order[:, :kept])):
        with Between(model) as between:
            ecg = model.ecg_states(tokens.gather(1, seen[..., None].expand(-1, -1, tokens.shape[2])))
            text = model.text_states(tensors["text"])
            joined = model.join(ecg, text, tensors["text_attention_mask"])
            between.found["mem_logits"] = model.mim_head(joined.partly, order) if prefix == "masked" else joined.partly
        found = between.found | {
            "uni_modal_text_feats": joined.text_vectors,
            "uni_modal_ecg_feats": joined.ecg_vectors,
            "multi_modal_text_feats": joined.text,
            "multi_modal_ecg_feats": joined.ecg,
            "multi_modal_cls_feats": joined.vectors,
            "etm_logits": model.itm_head(joined.vectors),
            "mlm_logits": model.mlm_head(joined.text),
            "mem_ids_restore": order.argsort(dim=1),
            "mem_masks": _is_removed(order, kept).float(),
        }
        is_word = tensors["text_attention_mask"]
        for name, expected in fixture.named(f"{prefix}.").items():
            if name.startswith(OF_WORDS):
                own = found[name] if found[name].ndim == 2 else found[name][is_word]
                close(own, expected[is_word], WITHIN, f"{prefix} {name}")
            elif name not in FRONT_END:
                close(found[name], expected, WITHIN, f"{prefix} {name}")


class Between:
    """Collects what layers compute while it is entered, under the names of the fixtures."""

    def __init__(self, model: DBetaModel):
        self.model, self.found, self.hooks = model, {}, []

    def __enter__(self) -> "Between":
        model = self.model
        outputs: dict[str, Any] = {"encoder_out": model.ecg_encoder.encoder, "t5_last_hidden": model.language_encoder}
        outputs["mem_decoder_out_TBC"] = model.mim_head.decoder.resblocks
        outputs |= {f"enc_layer{place}_TBC": layer for place, layer in enumerate(model.ecg_encoder.encoder.layers)}
        for name, module in outputs.items():
            self.hooks.append(
                module.register_forward_hook(lambda _, inputs, output, name=name: self._keep(name, output))
            )
        for modality, layers in (("text", model.multi_modal_language_layers), ("ecg", model.multi_modal_ecg_layers)):
            for place, layer in enumerate(layers):
                name = f"multi_modal_{modality}_feats_{place}"
                self.hooks.append(
                    layer.register_forward_pre_hook(lambda _, given, name=name: self._keep(name, given[0]))
                )
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _keep(self, name: str, value: Tensor) -> None:
        self.found[name] = value.transpose(0, 1) if name.endswith("TBC") else value


def _vectors(fixture: Fixture, model: DBetaModel) -> None:
    """Zero-shot: each text by itself, without padding."""
    texts = [ids[:length].tolist() for ids, length in zip(fixture.tensors["text"], fixture.facts["lens"], strict=True)]
    ecgs, said = ecg_vectors(model, fixture.tensors["ecg"].numpy()), text_vectors(model, texts)
    for name, found in (("ecg_pooled", ecgs), ("text_pooled_unpadded", said), ("similarity", scores(ecgs, said))):
        close(torch.from_numpy(found), fixture.tensors[f"infer.{name}"], WITHIN, name)


def _masked(fixture: Fixture, model: DBetaModel) -> None:
    """All losses from one pass through the network as pretraining calls it, and their gradients."""
    tensors = fixture.tensors
    order, kept = _order(fixture)
    group = MaskedPairs(
        x=tensors["ecg"],
        token_ids=tensors["text"],
        is_word=tensors["text_attention_mask"],
        labels=tensors["mlm_labels"],
        is_aligned=tensors["is_aligned"].bool(),
        order=order,
        kept=kept,
        counts=None,
        seed=0,
    )
    samples = model.recipe.samples_per_token
    for is_standardised in (False, True):
        case, recipe = f"masked_npl{int(is_standardised)}", pretraining_of(fixture.facts, standardised=is_standardised)
        target = reconstruction_target(group.x, tokens=order.shape[1], samples=samples, standardised=is_standardised)
        close(target.flatten(2), tensors[f"{case}.mem_target"], WITHIN, f"{case} target")
        model.zero_grad()
        found = model(
            group.x,
            group.token_ids,
            group.is_word,
            is_masked=group.labels != NOT_PREDICTED,
            order=order,
            kept=kept,
        )
        terms, expected = loss_terms(found, group, samples=samples, recipe=recipe), fixture.facts["losses"][case]
        for official, name in OFFICIAL_TERMS.items():
            difference = abs(terms[TERMS.index(name)].item() - expected[official])
            assert difference <= WITHIN, f"{case} {official} differs by {difference:.2g}"
        assert abs(terms.sum().item() - expected["total"]) <= 2 * WITHIN, f"{case} total"
        words = group.labels[group.labels != NOT_PREDICTED]
        assert len(words) == expected["mlm_count"]
        assert int((found.words.argmax(dim=1) == words).sum()) == expected["mlm_correct"]
        assert int((found.matching.argmax(dim=1) == group.is_aligned).sum()) == expected["etm_correct"]
    terms.sum().backward()
    _gradients(fixture, model)
    # As the training loop calls it: the same loss, times the number of ECGs.
    objective = _objective(fixture, model)
    sums = objective.backward(model, group, weight=1.0)
    point = objective.point(sums, len(group.x))
    assert abs(point["loss"] - fixture.facts["losses"]["masked_npl1"]["total"]) <= 2 * WITHIN


def _gradients(fixture: Fixture, model: DBetaModel) -> None:
    own = {shape_key(name): parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, gradient in own.items() if gradient is None] == fixture.facts["params_without_grad"]
    for name, expected in fixture.named("grad.").items():
        gradient = own[name]
        assert gradient is not None
        torch.testing.assert_close(
            gradient, expected, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"gradient of {name}: {text}"
        )
    norm = nn.utils.get_total_norm([gradient for gradient in own.values() if gradient is not None])
    assert abs(norm.item() / fixture.facts["grad_norm_total"] - 1) <= 1e-3, "norm of the gradient"


def _contrast_and_leads(fixture: Fixture) -> None:
    similarities = fixture.tensors["ets.ecg"] @ fixture.tensors["ets.text"].T
    for case in fixture.facts["ets_cases"]:
        is_aligned = torch.tensor(case["labels"]).bool()
        loss = pair_loss(similarities, is_aligned, scale=case["logit_scale"], bias=case["bias"] or 0.0)
        assert abs(loss.item() - case["loss"]) <= WITHIN, f"contrast of {case['labels']}"
    for case in fixture.facts["lead_mask"]:
        # The first number decides whether leads are lost at all, which is always so.
        uniform = np.random.RandomState(case["numpy_legacy_seed"]).rand(1 + len(case["surviving"]))[1:]
        kept = leads_kept(uniform, fixture.facts["config"]["lead_masking"])
        assert kept.astype(int).tolist() == case["surviving"], "leads that are kept"


def _replaced_texts(fixture: Fixture, model: DBetaModel) -> None:
    """Of the intended collator, which the released code is not: a replaced text is what the network reads, then it is
    masked, and the ECG's own text is nowhere. The least similar texts of each text are made of other tokens.
    """
    objective, texts = _objective(fixture, model), fixture.tensors["text"].numpy()
    lengths, words = np.array(fixture.facts["lens"]), objective.words
    x = fixture.tensors["ecg"].numpy()
    rows = np.concatenate([np.arange(len(texts))[:, None], lengths[:, None], texts], axis=1).astype(np.int32)
    seen = {False: 0, True: 0}
    for step in range(20):
        group = objective.micro_batch({model.recipe.view: x, TEXTS: rows}, range(len(x)), step=step, device="cpu")
        for place, is_own in enumerate(group.is_aligned.tolist()):
            own, masked = texts[place, : lengths[place]], group.labels[place] != NOT_PREDICTED
            # What the network is to read, with the masked tokens as they were.
            read = torch.where(masked, group.labels[place], group.token_ids[place])[group.is_word[place]].tolist()
            if is_own:
                assert read == own.tolist(), "a text that is the ECG's own is another"
            else:
                assert read == _other(words, place), "a replaced text does not reach the network"
            seen[is_own] += 1
            special = np.isin(read, words.special)
            assert not masked[: len(read)][torch.from_numpy(special)].any(), "a special token is to be predicted"
            assert not masked[len(read) :].any(), "padding is to be predicted"
        assert (group.labels != NOT_PREDICTED).any()
    assert min(seen.values()), "texts are never, or always replaced"


def _objective(fixture: Fixture, model: DBetaModel) -> DBetaObjective:
    """The objective of a network; each text of the fixture has a negative of other tokens."""
    count = len(fixture.facts["lens"])
    words = Words(vocabulary=fixture.facts["config"]["vocab_size"], pad=0, mask=2, special=(0, 1, 2))
    others = [_other(words, place) for place in range(count)]
    negatives = NegativeTexts(
        tokens=_negative_tokens(fixture, others),
        lengths=np.array([*fixture.facts["lens"], *map(len, others)]),
        negatives=np.array([[count + place] for place in range(count)] + [[-1]] * count),
    )
    return DBetaObjective(
        network=model,
        recipe=model.recipe,
        pretraining=pretraining_of(fixture.facts),
        words=words,
        negatives=negatives,
        seed=3,
        text_start={},
    )


def _other(words: Words, place: int) -> list[int]:
    """The negative of a text: one token, as often as the text's place says, and the end."""
    return [words.vocabulary - 1 - place] * (3 + place) + [1]


def _negative_tokens(fixture: Fixture, others: list[list[int]]) -> np.ndarray:
    texts = fixture.tensors["text"].numpy()
    rows = np.zeros((len(texts) + len(others), max(texts.shape[1], *map(len, others))), np.int64)
    rows[: len(texts), : texts.shape[1]] = texts
    for row, tokens in zip(rows[len(texts) :], others, strict=True):
        row[: len(tokens)] = tokens
    return rows


def _order(fixture: Fixture) -> tuple[Tensor, int]:
    noise = fixture.tensors["mask_noise"]
    order = torch.from_numpy(order_tokens(noise.numpy()))
    return order, pretraining_of(fixture.facts).tokens_kept(noise.shape[1])


def _is_removed(order: Tensor, kept: int) -> Tensor:
    return torch.ones(order.shape).scatter(1, order[:, :kept], 0.0)
