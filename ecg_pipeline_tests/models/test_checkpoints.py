"""Checkpoints come back as they were saved, and foreign files are read as tensors or not at all."""

import os
import zipfile
from argparse import Namespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ecg_pipeline.training.weights import load_exactly, read_weights, save_checkpoint


def test_what_is_saved_comes_back(tmp_path):
    state = {"a": torch.randn(3, 4).T, "b": torch.arange(5)}
    checkpoint = save_checkpoint(tmp_path / "made", state=state, config={"model": {"family": "heartbeit"}})
    assert checkpoint.config() == {"model": {"family": "heartbeit"}}
    read = checkpoint.state()
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s}])
def test_training_wrappers_are_taken_off(tmp_path, wrap):
    torch.save(wrap({"module.w": torch.ones(2)}), tmp_path / "weights.pth")
    assert torch.equal(read_weights(tmp_path / "weights.pth")["w"], torch.ones(2))


def test_safetensors_are_read(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "weights.safetensors")
    assert read_weights(tmp_path / "weights.safetensors").keys() == {"w"}


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_in_it_is_refused(tmp_path, legacy):
    content = {"model": {"w": torch.ones(2), "x": Malicious(tmp_path / "ran")}}
    torch.save(content, tmp_path / "weights.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"weights\.pth holds more than tensors \(it asks for (posix|nt)\.mkdir\)"):
        read_weights(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


def test_beits_command_line_beside_the_weights_is_no_obstacle_and_code_in_it_is(tmp_path):
    content = {"model": {"w": torch.ones(2)}, "args": Namespace(lr=5e-4)}
    torch.save(content, tmp_path / "weights.pth")
    assert read_weights(tmp_path / "weights.pth").keys() == {"w"}
    content["args"].extra = Malicious(tmp_path / "ran")
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="holds more than tensors"):
        read_weights(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [np.float64(0.91), np.float32(0.5), np.int64(7), np.bool_(True)])
def test_a_numpy_scalar_and_options_beside_the_weights_are_no_obstacle(tmp_path, value):
    content = {"state_dict": {"w": torch.ones(2)}, "val_auroc": value, "cfg": {"model": {"layers": [1, None, "gelu"]}}}
    torch.save(content, tmp_path / "weights.pth")
    assert read_weights(tmp_path / "weights.pth").keys() == {"w"}
    with zipfile.ZipFile(tmp_path / "weights.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for name in new.namelist():  # as NumPy 1 wrote it
            old.writestr(name, new.read(name).replace(b"cnumpy._core", b"cnumpy.core"))
    assert read_weights(tmp_path / "old.pth").keys() == {"w"}
    torch.save({"w": torch.ones(2), "cfg": {}}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="no tensor under cfg"):
        read_weights(tmp_path / "weights.pth")


def test_only_a_prefix_of_all_names_is_taken_off(tmp_path):
    torch.save({"module.w": torch.ones(2), "w": torch.zeros(2)}, tmp_path / "weights.pth")
    assert read_weights(tmp_path / "weights.pth").keys() == {"module.w", "w"}


def test_a_damaged_file_is_said_to_be(tmp_path):
    torch.save({"w": torch.ones(2000)}, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("cut.pth", "empty.pth"):
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            read_weights(tmp_path / name)


def test_a_file_without_names_is_refused(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="does not hold tensors by name"):
        read_weights(tmp_path / "weights.pth")


def test_every_problem_is_listed_and_nothing_is_loaded():
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(ValueError, match=r"missing bias; unexpected extra; weight is \(4, 2\), not \(3, 2\)"):
        load_exactly(module, {"weight": torch.zeros(4, 2), "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="missing bias"):
        load_exactly(module, {"weight": torch.zeros(3, 2)})
    assert torch.equal(module.weight, before)
    load_exactly(module, {"weight": torch.zeros(3, 2)}, fresh=["bias"])
    assert not module.weight.any()
