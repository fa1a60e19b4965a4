"""Pretraining checkpoints of BEiT's own scripts come in and go out whole, or not at all."""

from argparse import Namespace
from dataclasses import replace

import pytest
import torch

from ecg_pipeline.models.heartbeit.beit import (
    MaskedImageModel,
    beit_classifier,
    export_pretraining,
    import_pretraining,
    masked_image_model,
)
from ecg_pipeline.models.heartbeit.recipes import HeartBeitRecipe
from ecg_pipeline.models.heartbeit.relative_position import resize_table

TINY = HeartBeitRecipe(image_px=32, patch_px=16, width=32, depth=2, heads=2)


def logits_of(checkpoint, recipe, vocabulary, images, mask):
    model = MaskedImageModel(recipe, vocabulary).eval()
    model.load_official_state(checkpoint.state())
    with torch.inference_mode():
        return model(images, mask)


def test_an_official_checkpoint_is_imported_and_exported(tmp_path):
    model = masked_image_model(TINY, vocabulary=7, seed=0).eval()
    index = "rel_pos_bias.relative_position_index"
    official = model.official_state() | {index: model.beit.get_buffer(index)}
    wrapped = {f"module.{name}": tensor for name, tensor in official.items()}
    arguments = Namespace(model="beit_base_patch16_224_8k_vocab", lr=5e-4, window_size=(14, 14))
    content = {"model": wrapped, "epoch": 299, "optimizer": {}, "args": arguments}
    torch.save(content, tmp_path / "checkpoint-299.pth")
    checkpoint = import_pretraining(tmp_path / "checkpoint-299.pth", TINY, tmp_path / "imported")
    assert checkpoint.config()["vocabulary"] == 7
    assert checkpoint.config()["origin"] == "masked image modelling, imported from checkpoint-299.pth"
    images, mask = torch.randn(2, 3, 32, 32), torch.tensor([[True, False, False, True], [False, True, True, True]])
    with torch.inference_mode():
        logits = model(images, mask)
    assert torch.equal(logits_of(checkpoint, TINY, 7, images, mask), logits)

    exported = export_pretraining(checkpoint, tmp_path / "exported.pth")
    state = torch.load(exported, weights_only=True)["model"]
    assert state.keys() == official.keys()
    assert all(torch.equal(tensor, official[name]) for name, tensor in state.items())
    again = import_pretraining(exported, TINY, tmp_path / "again")
    assert torch.equal(logits_of(again, TINY, 7, images, mask), logits)


def test_a_checkpoint_of_smaller_images_is_resized_when_it_is_fine_tuned(tmp_path):
    smaller, larger = replace(TINY, image_px=64), replace(TINY, image_px=96)
    model = masked_image_model(smaller, vocabulary=7, seed=0)
    torch.nn.init.normal_(model.beit.rel_pos_bias.relative_position_bias_table)
    torch.save({"model": model.official_state()}, tmp_path / "small.pth")
    start = import_pretraining(tmp_path / "small.pth", larger, tmp_path / "imported")
    assert start.config()["model"]["image_px"] == 64
    table = beit_classifier(larger, start.state(), classes=1, seed=0).state_dict()[
        "blocks.1.attn.relative_position_bias_table"
    ]
    assert torch.equal(table, resize_table(model.official_state()["rel_pos_bias.relative_position_bias_table"], 6))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"norm.bias": None}, r"missing norm\.bias"),
        ({"rel_pos_bias.relative_position_bias_table": None}, r"missing rel_pos_bias\.relative_position_bias_table"),
        ({"pos_embed": torch.zeros(1, 5, 32)}, "unexpected pos_embed"),
        ({"blocks.0.attn.relative_position_index": torch.zeros(5, 5)}, r"unexpected blocks\.0\.attn"),
        ({"blocks.2.gamma_1": torch.zeros(32)}, r"unexpected blocks\.2\.gamma_1"),
        ({"cls_token": torch.zeros(1, 1, 3)}, r"cls_token is \(1, 1, 3\), not \(1, 1, 32\)"),
        ({"rel_pos_bias.relative_position_bias_table": torch.zeros(11, 2)}, "11 rows does not belong to a square grid"),
        ({"rel_pos_bias.relative_position_index": torch.zeros(5, 5)}, "relative_position_index numbers positions"),
        ({"epoch": 3}, "no tensor under epoch"),
    ],
)
def test_a_file_that_does_not_fit_is_named_and_not_imported(tmp_path, change, says):
    state = masked_image_model(TINY, vocabulary=7, seed=0).official_state() | change
    torch.save({"model": {name: value for name, value in state.items() if value is not None}}, tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match=says):
        import_pretraining(tmp_path / "wrong.pth", TINY, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_a_pretraining_checkpoint_is_not_imported(tmp_path):
    torch.save({"model": {"head.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth has no `lm_head\.weight`"):
        import_pretraining(tmp_path / "other.pth", TINY, tmp_path / "out")
