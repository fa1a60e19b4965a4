"""The encoder of T5 is that of transformers, and a folder that holds none is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ecg_pipeline.models.t5 import T5Encoder, load_encoder, mean_vectors, read_t5_folder
from ecg_pipeline.models.t5_shape import T5Shape, shape_of


@pytest.mark.parametrize("activation", ["gated-gelu", "relu"])
def test_a_t5_folder_is_read_as_transformers_reads_it(tmp_path, activation):
    from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=40, d_model=24, d_kv=5, d_ff=30, num_layers=3, num_heads=4, feed_forward_proj=activation
    )
    whole = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    whole.save_pretrained(tmp_path)
    theirs = T5EncoderModel.from_pretrained(tmp_path, local_files_only=True).eval()
    assert read_t5_folder(tmp_path)[0] == shape_of(config.to_dict())
    ours = load_encoder(tmp_path)
    ids = torch.randint(0, 40, (3, 190))
    is_word = torch.arange(190) < torch.tensor([[190], [141], [2]])
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).last_hidden_state, atol=1e-5, rtol=0)
        masked, expected = ours(ids, is_word), theirs(ids, attention_mask=is_word).last_hidden_state
    torch.testing.assert_close(masked[is_word], expected[is_word], atol=1e-5, rtol=0)


def test_a_folder_that_is_no_t5_encoder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"feed_forward_proj": "gated-silu"}')
    with pytest.raises(ValueError, match="gated-silu"):
        read_t5_folder(tmp_path)
    sizes = '"d_model": 4, "d_kv": 2, "d_ff": 3, "num_layers": 1, "num_heads": 1, "vocab_size": 3'
    (tmp_path / "config.json").write_text(f"{{{sizes}}}")
    with pytest.raises(ValueError, match="has no weights"):
        read_t5_folder(tmp_path)
    tables = {"shared.weight": torch.zeros(3, 4), "encoder.embed_tokens.weight": torch.ones(3, 4)}
    save_file(tables, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="must be one table"):
        read_t5_folder(tmp_path)


def test_the_mean_vector_of_a_text_is_that_of_its_words():
    torch.manual_seed(0)
    shape = T5Shape(width=16, depth=2, heads=2, head_width=6, mlp_width=20)
    encoder = T5Encoder(shape, vocabulary=30).eval()
    texts = ([5, 9, 11, 1], [7, 1])
    padded = np.array([texts[0], [*texts[1], 0, 0]], np.int32)
    found = mean_vectors(encoder, padded, np.array([4, 2], np.int32))
    for vector, ids in zip(found, texts, strict=True):
        with torch.no_grad():
            alone = encoder(torch.tensor([ids])).mean(dim=1)[0].numpy()
        np.testing.assert_allclose(vector, alone, atol=1e-5)
