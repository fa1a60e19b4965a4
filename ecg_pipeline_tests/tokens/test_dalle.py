"""DALL-E's networks have the released sizes; its published pickle is read without being run."""

import os
import sys
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ecg_pipeline.tokens.dalle import import_tokenizer
from ecg_pipeline.tokens.dalle_networks import DalleEncoder, DalleShape
from ecg_pipeline.tokens.encode import load_tokenizer
from ecg_pipeline_tests.conformance.released.dalle_decoder import DalleDecoder
from ecg_pipeline_tests.tokens.conftest import plotted_images

TINY = DalleShape(hidden=8, blocks_per_group=2, vocabulary=32)


def test_released_sizes():
    with torch.device("meta"):
        encoder, decoder = DalleEncoder(DalleShape()), DalleDecoder(DalleShape())
    assert sum(p.numel() for p in encoder.parameters()) == 53_786_240
    assert sum(p.numel() for p in decoder.parameters()) == 43_829_766


def test_an_imported_encoder_encodes_images(tmp_path):
    encoder = DalleEncoder(TINY)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    tokenizer = import_tokenizer(tmp_path / "encoder.safetensors", out=tmp_path / "out")
    assert tokenizer.vocabulary == 32
    ids = load_tokenizer(tokenizer).encode(plotted_images(3, seed=0))
    assert ids.shape == (3, 196)
    assert ids.min() >= 0
    assert ids.max() < 32


def test_weights_that_do_not_fit_are_listed(tmp_path):
    state = DalleEncoder(TINY).state_dict()
    state["nonsense"] = state.pop("blocks.group_2.block_1.id_path.w")
    save_file(state, tmp_path / "encoder.safetensors")
    with pytest.raises(RuntimeError, match=r"(?s)blocks\.group_2\.block_1\.id_path\.w.*nonsense"):
        import_tokenizer(tmp_path / "encoder.safetensors", out=tmp_path / "out")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"missing blocks\.input\.w"):
        import_tokenizer(tmp_path / "other.safetensors", out=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="put the weights of its encoder there"):
        import_tokenizer(tmp_path / "absent.pkl", out=tmp_path / "out")


@pytest.fixture
def published_pickle(tmp_path, monkeypatch):
    """A pickle of whole modules, of classes named as in DALL-E's package, which is gone when it is read."""
    modules = {name: ModuleType(name) for name in ("dall_e", "dall_e.encoder", "dall_e.utils")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)

    def named(name, where):
        made = type(name, (nn.Module,), {"__module__": where, "__qualname__": name})
        setattr(modules[where], name, made)
        return made

    classes = {
        "Conv": named("Conv2d", "dall_e.utils"),
        "Block": named("EncoderBlock", "dall_e.encoder"),
        "DalleEncoder": named("Encoder", "dall_e.encoder"),
        "_Halve": nn.MaxPool2d,
    }
    encoder = DalleEncoder(TINY)
    state = encoder.state_dict()
    for module in encoder.modules():
        module.__class__ = classes.get(type(module).__name__, type(module))
    torch.save(encoder, tmp_path / "encoder.pkl")
    monkeypatch.undo()
    return tmp_path / "encoder.pkl", state


def test_the_published_pickle_is_read_without_its_classes(published_pickle, tmp_path):
    path, state = published_pickle
    assert "dall_e" not in sys.modules
    tokenizer = import_tokenizer(path, out=tmp_path / "out")
    read = load_tokenizer(tokenizer).network.state_dict()
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_in_it_is_refused(tmp_path):
    torch.save({"blocks.input.w": Malicious(tmp_path / "ran")}, tmp_path / "encoder.pkl")
    with pytest.raises(ValueError, match=r"encoder\.pkl holds more than weights"):
        import_tokenizer(tmp_path / "encoder.pkl", out=tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()
