"""BEiT: its size, its checkpoints, and what it starts from."""

import pytest
import torch
from timm.models import beit as timm_beit

from ecg_pipeline.models import FAMILIES
from ecg_pipeline.models.heartbeit.beit import MaskedImageModel, beit_classifier, masked_image_model
from ecg_pipeline.models.heartbeit.recipes import HeartBeitRecipe

TINY = HeartBeitRecipe(image_px=32, patch_px=16, width=32, depth=2, heads=2)


def test_base_size_counts_the_papers_parameters():
    with torch.device("meta"):
        model = MaskedImageModel(HeartBeitRecipe(), vocabulary=8192)
    head = sum(p.numel() for p in model.beit.head.parameters())
    total = sum(p.numel() for p in model.parameters())
    assert (total, total - head) == (91_965_776, 85_666_128)


def test_official_names_round_trip():
    model, other = masked_image_model(TINY, vocabulary=7, seed=0), MaskedImageModel(TINY, 7)
    other.load_official_state(model.official_state())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_half_loaded_model_is_an_error_that_names_the_keys():
    state = masked_image_model(TINY, vocabulary=7, seed=0).official_state()
    state["nonsense"] = state.pop("norm.bias")
    with pytest.raises(ValueError, match=r"missing norm\.bias.*unexpected nonsense"):
        MaskedImageModel(TINY, 7).load_official_state(state)
    state = masked_image_model(TINY, vocabulary=7, seed=0).official_state()
    del state["blocks.1.mlp.fc1.weight"]
    with pytest.raises(ValueError, match=r"missing blocks\.1\.mlp\.fc1\.weight"):
        beit_classifier(TINY, state, classes=1, seed=0)


def test_a_classifier_without_a_start_is_initialised_by_its_seed():
    recipe = HeartBeitRecipe(width=192, depth=2, heads=3)
    one, again, other = (beit_classifier(recipe, None, classes=1, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.get_parameter("head.weight"), other.get_parameter("head.weight"))
    assert one.get_parameter("head.weight").abs().max() < 1e-4
    assert one.get_parameter("blocks.0.mlp.fc1.weight").std().item() == pytest.approx(0.02, rel=0.02)
    assert one.get_parameter("blocks.1.mlp.fc2.weight").std().item() == pytest.approx(0.01, rel=0.02)
    kernels = one.get_parameter("patch_embed.proj.weight")
    assert kernels.abs().max().item() == pytest.approx(1 / (3 * 16 * 16) ** 0.5, rel=0.01)


def test_no_attention_is_fused_on_a_processor_because_the_bias_has_no_gradient_there(monkeypatch):
    def fused(*arguments, **options):
        raise AssertionError("fused attention on a CPU")

    classifier = FAMILIES["heartbeit"].classifier(TINY, None, seed=0)
    monkeypatch.setattr(timm_beit.F, "scaled_dot_product_attention", fused)
    classifier(torch.zeros(2, 32, 32, dtype=torch.uint8)).sum().backward()
    tables = [p for name, p in classifier.named_parameters() if name.endswith("relative_position_bias_table")]
    assert len(tables) == TINY.depth
    assert all(table.grad is not None for table in tables)


@pytest.mark.parametrize("values", [{"patch_px": 15}, {"heads": 7}, {"depth": 0}, {"drop_path": 1.0}, {"patch_px": 0}])
def test_impossible_recipes_are_refused(values):
    with pytest.raises(ValueError, match=r"tile|divide|positive|drop_path"):
        HeartBeitRecipe(**values)
