"""Checks of BEiT: the network, the checkpoint that a classifier starts from, initialisation, what decays."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from ecg_pipeline.models.heartbeit.beit import MaskedImageModel, beit_classifier, from_pretraining, masked_image_model
from ecg_pipeline.models.heartbeit.recipes import HeartBeitRecipe
from ecg_pipeline.models.heartbeit.relative_position import INDEX, resize_table
from ecg_pipeline.training.schedules import decay_groups
from ecg_pipeline_tests.conformance.fixtures import Fixture, close, close_gradients

FIXED = {"norm_eps": 1e-6, "abs_pos_emb": False, "shared_rel_pos_bias": True, "use_mean_pooling": True}
"""Options of the reference that HeartBEiT does not vary, so that there is no choice here either."""

VOCABULARY = 8192


def recipe_of(config: Mapping[str, Any]) -> HeartBeitRecipe:
    """The network of a fixture; what it leaves out is HeartBEiT's base size."""
    for name, value in FIXED.items():
        assert config.get(name, value) == value, f"HeartBEiT has no {name} = {config[name]}"
    options = {"img": "image_px", "patch": "patch_px", "dim": "width", "depth": "depth", "heads": "heads"}
    options |= {"mlp_ratio": "mlp_ratio", "drop_path": "drop_path", "init_values": "layer_scale"}
    given: dict[str, Any] = {ours: config[theirs] for theirs, ours in options.items() if theirs in config}
    if not config.get("layer_scale", True):
        given["layer_scale"] = 0.0
    return HeartBeitRecipe(**given)


def official_name(name: str) -> str:
    """The authors' name of a parameter of `MaskedImageModel`."""
    return name.removeprefix("beit.").replace("head.", "lm_head.")


def beit_pretrain(fixture: Fixture) -> None:
    config, tensors = fixture.facts["config"], fixture.tensors
    model = MaskedImageModel(recipe_of(config), config["vocab"]).eval()
    assert {official_name(name) for name, _ in model.named_parameters()} == set(fixture.facts["param_names"])
    model.load_official_state(fixture.named("state."))
    images, mask = tensors["input.images"], tensors["input.bool_masked_pos"].bool()
    close(model.features(images, mask), tensors["output.features"], 2e-5, "features")
    logits = model(images, mask)
    close(logits, tensors["output.logits_masked"], 2e-5, "logits")
    loss = cross_entropy(logits, tensors["input.token_ids"][mask].long())
    close(loss.reshape(1), tensors["output.loss"].reshape(1), 1e-5, "loss")
    loss.backward()
    found = {official_name(name): parameter.grad for name, parameter in model.named_parameters()}
    close_gradients(found, fixture.named("grad."))


def beit_finetune(fixture: Fixture) -> None:
    """A pretraining checkpoint becomes the reference's classifier; with the fixture's head it gives its numbers."""
    config, tensors = fixture.facts["config"], fixture.tensors
    recipe = recipe_of(config)
    expected = {name: tensor for name, tensor in fixture.named("state.").items() if INDEX not in name}
    start = fixture.beside("beit_pretrain").named("state.") | fixture.named("ckpt.")
    copied, expanded = fixture.facts["keys_copied_unchanged"], fixture.facts["keys_from_shared_table"]
    fresh, unused = fixture.facts["keys_left_at_init_by_loader"], fixture.facts["keys_in_checkpoint_not_used"]
    assert from_pretraining(recipe, start).keys() == {*copied, *expanded}
    assert not {*copied, *expanded} & {*fresh, *unused}

    model = beit_classifier(recipe, start, classes=config["num_classes"], seed=config["seed"]).eval()
    own = model.state_dict()
    assert own.keys() == expected.keys() == {*copied, *expanded, *fresh}
    for name in (*copied, *expanded):
        close(own[name], expected[name], 0 if name in copied else 1e-5, name)
    assert bool((own["fc_norm.weight"] == 1).all())
    assert not own["fc_norm.bias"].any()
    assert not own["head.bias"].any()
    assert 0 < float(own["head.weight"].abs().max()) < 5 * 0.02 * config["init_scale"]

    model.load_state_dict({name: expected[name] for name in fresh}, strict=False)
    images = tensors["input.images"]
    close(model.forward_head(model.forward_features(images), pre_logits=True), tensors["output.pooled"], 1e-5, "pooled")
    logits = model(images)
    close(logits, tensors["output.logits"], 1e-5, "logits")
    loss = cross_entropy(logits, tensors["input.labels"].long())
    close(loss.reshape(1), tensors["output.loss"].reshape(1), 1e-5, "loss")
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    close_gradients(found, fixture.named("grad."))


def relpos_resize(fixture: Fixture) -> None:
    for source, target in fixture.facts["pairs_window_src_dst"]:
        resized = resize_table(fixture.tensors[f"src_{source}_{target}"], target)
        close(resized, fixture.tensors[f"dst_{source}_{target}"], 1e-5, f"{source} to {target}")


def init_stats(fixture: Fixture) -> None:
    """Two draws of n values differ in their statistics by chance; for large tensors that is far below 2 %."""
    facts, config = fixture.facts, fixture.facts.get("config", {})
    vocabulary, seed = config.get("vocab", VOCABULARY), config.get("seed", 0)
    model = masked_image_model(recipe_of(config), vocabulary=vocabulary, seed=seed)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == facts["n_params"]
    assert parameters - sum(p.numel() for p in model.beit.head.parameters()) == facts["n_params_without_head"]
    state = model.official_state()
    for name, expected in facts["stats"].items():
        tensor, deviation = state[name].double(), expected["std"]
        n = tensor.numel()
        assert abs(tensor.mean() - expected["mean"]) <= 6 * deviation / n**0.5 + 1e-7, f"mean of {name}"
        assert abs(tensor.std() - deviation) <= max(0.02, 5 / n**0.5) * deviation + 1e-7, f"deviation of {name}"
        within = max(0.02, 15 / n) * expected["absmax"] if deviation > 1e-6 else 1e-7
        assert abs(tensor.abs().max() - expected["absmax"]) <= within, f"largest value of {name}"


def param_groups(fixture: Fixture) -> None:
    config, groups = fixture.facts["config"], fixture.facts["groups"]
    with torch.device("meta"):
        model = MaskedImageModel(recipe_of(config), config["vocab"])
    names = {id(parameter): official_name(name) for name, parameter in model.named_parameters()}
    weight_decay = max(group["weight_decay"] for group in groups)
    found = {
        group["weight_decay"]: sorted(names[id(parameter)] for parameter in group["params"])
        for group in decay_groups(model, weight_decay)
    }
    assert found == {group["weight_decay"]: sorted(group["names"]) for group in groups}
