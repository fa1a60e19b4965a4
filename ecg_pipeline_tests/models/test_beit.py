"""BEiT gives the reference implementation's numbers on the same weights."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from ecg_pipeline.models.beit import (
    MaskedImageModel,
    beit_classifier,
    export_pretraining,
    from_pretraining,
    import_pretraining,
    masked_image_model,
)
from ecg_pipeline.models.recipes import BeitRecipe
from ecg_pipeline.models.relative_position import resize_table

TINY = BeitRecipe(image_px=32, patch_px=16, width=32, depth=2, heads=2)


@pytest.fixture
def golden(shared):
    def read(kind):
        folder = shared / "golden" / "heartbeit"
        tensors = load_file(folder / f"{kind}.safetensors")
        return json.loads((folder / f"{kind}.json").read_text()), tensors

    return read


def named(tensors, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def recipe_of(config, image):
    return BeitRecipe(
        image_px=config[image],
        patch_px=config["patch"],
        width=config["dim"],
        depth=config["depth"],
        heads=config["heads"],
        mlp_ratio=config["mlp_ratio"],
    )


def test_pretraining_forward_loss_and_gradients(golden):
    facts, tensors = golden("beit_pretrain")
    model = MaskedImageModel(recipe_of(facts["config"], "img"), facts["config"]["vocab"]).eval()
    model.load_official_state(named(tensors, "state."))
    images, mask = tensors["input.images"], tensors["input.bool_masked_pos"].bool()
    torch.testing.assert_close(model.features(images, mask), tensors["output.features"], atol=2e-5, rtol=0)
    logits = model(images, mask)
    torch.testing.assert_close(logits, tensors["output.logits_masked"], atol=2e-5, rtol=0)
    loss = cross_entropy(logits, tensors["input.token_ids"][mask].long())
    torch.testing.assert_close(loss.reshape(1), tensors["output.loss"], atol=1e-5, rtol=0)
    loss.backward()
    own = {name.removeprefix("beit.").replace("head.", "lm_head."): p.grad for name, p in model.named_parameters()}
    gradients = named(tensors, "grad.")
    assert gradients
    for name, expected in gradients.items():
        torch.testing.assert_close(own[name], expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("kind", ["beit_finetune_same", "beit_finetune_interp"])
def test_classifier_forward(golden, kind):
    facts, tensors = golden(kind)
    recipe = recipe_of(facts["config"], "img")
    model = beit_classifier(recipe, None, facts["config"]["num_classes"], seed=0).eval()
    state = {k: v for k, v in named(tensors, "state.").items() if "relative_position_index" not in k}
    model.load_state_dict(state, strict=True)
    features = model.forward_head(model.forward_features(tensors["input.images"]), pre_logits=True)
    torch.testing.assert_close(features, tensors["output.pooled"], atol=1e-5, rtol=0)
    logits = model(tensors["input.images"])
    torch.testing.assert_close(logits, tensors["output.logits"], atol=1e-5, rtol=0)
    loss = cross_entropy(logits, tensors["input.labels"].long())
    assert loss.item() == pytest.approx(facts["loss"], abs=1e-5)
    loss.backward()
    for name, expected in named(tensors, "grad.").items():
        found = model.get_parameter(name).grad
        torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("kind", ["beit_finetune_same", "beit_finetune_interp"])
def test_a_pretraining_checkpoint_becomes_the_classifier_the_reference_makes_of_it(golden, kind):
    facts, tensors = golden(kind)
    _, pretrained = golden("beit_pretrain")
    start = named(pretrained, "state.") | named(tensors, "ckpt.")
    made = from_pretraining(recipe_of(facts["config"], "img"), start)
    expected = {k: v for k, v in named(tensors, "state.").items() if not k.startswith(("fc_norm.", "head."))}
    assert made.keys() == {name for name in expected if "relative_position_index" not in name}
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)


def test_tables_are_resized_by_the_authors_rule(golden):
    facts, tensors = golden("relpos_resize")
    for source, target in facts["pairs_window_src_dst"]:
        resized = resize_table(tensors[f"src_{source}_{target}"], target)
        torch.testing.assert_close(resized, tensors[f"dst_{source}_{target}"], atol=1e-5, rtol=0)


def test_base_size_counts_the_papers_parameters():
    with torch.device("meta"):
        model = MaskedImageModel(BeitRecipe(), vocabulary=8192)
    head = sum(p.numel() for p in model.beit.head.parameters())
    total = sum(p.numel() for p in model.parameters())
    assert (total, total - head) == (91_965_776, 85_666_128)


def test_official_names_round_trip():
    model, other = masked_image_model(TINY, 7, seed=0), MaskedImageModel(TINY, 7)
    other.load_official_state(model.official_state())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_an_official_checkpoint_is_imported_and_exported(golden, tmp_path):
    facts, tensors = golden("beit_pretrain")
    recipe, official = recipe_of(facts["config"], "img"), named(tensors, "state.")
    wrapped = {f"module.{name}": tensor for name, tensor in official.items()}
    torch.save({"model": wrapped, "epoch": 299, "optimizer": {}}, tmp_path / "checkpoint-299.pth")
    checkpoint = import_pretraining(tmp_path / "checkpoint-299.pth", recipe, tmp_path / "imported")
    assert checkpoint.config()["vocabulary"] == facts["config"]["vocab"]
    exported = export_pretraining(checkpoint, tmp_path / "exported.pth")
    state = torch.load(exported, weights_only=True)["model"]
    assert state.keys() == {name for name in official if "relative_position_index" not in name}
    assert all(torch.equal(tensor, official[name]) for name, tensor in state.items())


def test_what_is_not_a_pretraining_checkpoint_is_not_imported(tmp_path):
    torch.save({"model": {"head.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth has no `lm_head\.weight`"):
        import_pretraining(tmp_path / "other.pth", TINY, tmp_path / "out")
    state = masked_image_model(TINY, 7, seed=0).official_state()
    torch.save({"model": state | {"cls_token": torch.zeros(1, 1, 3)}}, tmp_path / "wide.pth")
    with pytest.raises(ValueError, match=r"cls_token is \(1, 1, 3\), not \(1, 1, 32\)"):
        import_pretraining(tmp_path / "wide.pth", TINY, tmp_path / "out")


def test_a_half_loaded_model_is_an_error_that_names_the_keys():
    state = masked_image_model(TINY, 7, seed=0).official_state()
    state["nonsense"] = state.pop("norm.bias")
    with pytest.raises(ValueError, match=r"missing norm\.bias.*unexpected nonsense"):
        MaskedImageModel(TINY, 7).load_official_state(state)
    state = masked_image_model(TINY, 7, seed=0).official_state()
    del state["blocks.1.mlp.fc1.weight"]
    with pytest.raises(ValueError, match=r"missing blocks\.1\.mlp\.fc1\.weight"):
        beit_classifier(TINY, state, 2, seed=0)


def test_initialisation_has_the_references_statistics(shared):
    facts = json.loads((shared / "golden" / "heartbeit" / "init_stats.json").read_text())
    state = masked_image_model(BeitRecipe(), 8192, seed=0).official_state()
    assert facts["stats"].keys() <= state.keys()
    for name, expected in facts["stats"].items():
        tensor = state[name].double()
        if expected["std"] < 1e-6:
            torch.testing.assert_close(tensor, torch.full_like(tensor, expected["mean"]), atol=1e-6, rtol=0)
            continue
        # A draw of n values has a standard error of about std / sqrt(2 n); 2 % for large tensors.
        tolerance = max(0.02, 4 / (2 * tensor.numel()) ** 0.5)
        assert tensor.std().item() == pytest.approx(expected["std"], rel=tolerance), name
        assert abs(tensor.mean()) < 5 * expected["std"] / tensor.numel() ** 0.5, name
        assert tensor.abs().max().item() == pytest.approx(expected["absmax"], rel=0.02), name


def test_a_classifier_from_nothing_is_drawn_by_its_seed():
    recipe = BeitRecipe(width=192, depth=2, heads=3)
    one, again, other = (beit_classifier(recipe, None, 2, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.get_parameter("head.weight"), other.get_parameter("head.weight"))
    assert one.get_parameter("head.weight").abs().max() < 1e-4
    assert one.get_parameter("blocks.0.mlp.fc1.weight").std().item() == pytest.approx(0.02, rel=0.02)
    assert one.get_parameter("blocks.1.mlp.fc2.weight").std().item() == pytest.approx(0.01, rel=0.02)
    kernels = one.get_parameter("patch_embed.proj.weight")
    assert kernels.abs().max().item() == pytest.approx(1 / (3 * 16 * 16) ** 0.5, rel=0.01)


@pytest.mark.parametrize("values", [{"patch_px": 15}, {"heads": 7}, {"depth": 0}, {"drop_path": 1.0}, {"patch_px": 0}])
def test_impossible_recipes_are_refused(values):
    with pytest.raises(ValueError, match=r"tile|divide|positive|drop_path"):
        BeitRecipe(**values)
