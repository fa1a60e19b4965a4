"""Checks of Net1D: every stage of the network, its gradients, its batch norms, and the released sizes."""

import re
import runpy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ecg_pipeline.models.ecgfounder.network import Net1D
from ecg_pipeline.models.ecgfounder.recipes import EcgFounderRecipe
from ecg_pipeline_tests.conformance.fixtures import Fixture, close

WITHIN = 1e-5
SAMPLES = 5000
"""Length of the inputs of net1d_fullsize."""


def network_of(config: Mapping[str, Any], state: Mapping[str, Tensor], *, use_bn: bool) -> Net1D:
    """The network of a fixture, with its weights, in eval mode."""
    recipe = EcgFounderRecipe(
        leads=config["in_channels"],
        base_filters=config["base_filters"],
        widths=tuple(config["filter_list"]),
        blocks=tuple(config["m_blocks_list"]),
        kernel=config["kernel_size"],
        stride=config["stride"],
        groups_width=config["groups_width"],
        ratio=config["ratio"],
        use_bn=use_bn,
        dropout=0.5 if config["use_do"] else 0.0,
    )
    network = Net1D(recipe, config["n_classes"])
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert own == {name: tensor.shape for name, tensor in state.items()}
    network.load_state_dict(dict(state))
    return network.eval()


def stage_outputs(network: Net1D, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """The outputs of the first convolution and of each stage, and the logits."""
    outputs: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        for module in (network.first_conv, *network.stage_list)
    ]
    logits = network(x)
    for hook in hooks:
        hook.remove()
    return outputs, logits


def net1d(fixture: Fixture) -> None:
    config, state = fixture.facts["constructor"], fixture.named("sd.")
    for case, facts in fixture.facts["cases"].items():
        samples, with_bn = re.fullmatch(r"L(\d+)_bn([01])", case).groups()
        network = network_of(config, state, use_bn=with_bn == "1")
        x, expected = fixture.tensors[f"x{samples}"], fixture.named(f"{case}.")
        outputs, logits = stage_outputs(network, x)
        assert [list(output.shape) for output in outputs] == facts["stage_shapes"]
        for name, tensor in expected.items():
            if name.startswith("stage"):
                close(outputs[int(name.removeprefix("stage"))], tensor, WITHIN, f"{case} {name}")
        close(network.features(x), expected["features"], WITHIN, f"{case} features")
        close(logits, expected["logits"], WITHIN, f"{case} logits")
        close(logits.double(), expected["logits_f64"], WITHIN, f"{case} logits in double precision")
        loss = binary_cross_entropy_with_logits(logits, fixture.tensors["target"])
        assert abs(loss.item() - facts["bce_loss_f64"]) <= WITHIN, f"{case} loss"
        loss.backward()
        _check_gradients(network, expected, facts, case)
        if "train_logits" in expected and not config["use_do"]:
            _check_training(network.train(), x, expected, facts, fixture.tensors["target"], case)


def _check_gradients(network: Net1D, expected: Mapping[str, Tensor], facts: Mapping[str, Any], case: str) -> None:
    """Also which parameters have none: those that take no part, which must not wait for one either."""
    parameters = dict(network.named_parameters())
    without = sorted(facts["params_without_grad"])
    assert sorted(name for name, parameter in parameters.items() if parameter.grad is None) == without
    assert sorted(name for name, parameter in parameters.items() if not parameter.requires_grad) == without
    for name, tensor in expected.items():
        if name.startswith("grad."):
            own = parameters[name.removeprefix("grad.")].grad
            assert own is not None
            assert torch.allclose(own, tensor.float(), atol=1e-5, rtol=1e-3), f"{case} {name}"


def _check_training(
    network: Net1D, x: Tensor, expected: Mapping[str, Tensor], facts: Mapping[str, Any], target: Tensor, case: str
) -> None:
    """Batch norm by the batch, and what it remembers of it."""
    logits = network(x)
    close(logits, expected["train_logits"], WITHIN, f"{case} logits in training")
    loss = binary_cross_entropy_with_logits(logits, target).item()
    assert abs(loss - facts["train_bce_loss"]) <= WITHIN, f"{case} loss in training"
    own = network.state_dict()
    for name, tensor in expected.items():
        if name.startswith("train_first_bn."):
            close(own[name.removeprefix("train_")], tensor, WITHIN, f"{case} {name}")
    assert int(own["first_bn.num_batches_tracked"]) == facts["train_num_batches_tracked"]
    unused = int(own["stage_list.0.block_list.0.bn1.num_batches_tracked"])
    assert unused == facts["first_block_bn1_num_batches_tracked_after_train"]


def net1d_fullsize(fixture: Fixture) -> None:
    """Weights and inputs come from the rule in the file `fill_rule.py` beside the fixture."""
    rule = runpy.run_path(str(fixture.path.with_name("fill_rule.py")))
    for name, facts in fixture.facts["models"].items():
        config, expected = facts["constructor"], fixture.named(f"{name}.")
        state = {
            key: torch.from_numpy(rule["fill"](key, shape, fixture.facts["salt"]))
            for key, shape in facts["layout"].items()
        }
        leads = config["in_channels"]
        x = torch.from_numpy(rule["signal"]((2, leads, SAMPLES), fixture.facts["input_seed"] + leads))
        network = network_of(config, state, use_bn=False)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
        assert sum(parameter.numel() for parameter in network.parameters()) == facts["param_count"]
        assert sum(p.numel() for norm in norms for p in norm.parameters()) == facts["unused_batchnorm_param_count"]
        assert len(state) == facts["state_dict_len"]
        with torch.inference_mode():
            outputs, logits = stage_outputs(network, x)
            assert [list(output.shape) for output in outputs] == facts["stage_shapes"]
            moments = torch.stack([torch.stack([y.double().mean(), y.double().std()]) for y in outputs])
            close(moments, expected["stage_means"], WITHIN, f"{name} mean and deviation of the stages")
            close(network.features(x), expected["features"], WITHIN, f"{name} features")
            close(logits, expected["logits"], WITHIN, f"{name} logits")
            close(logits.double(), expected["logits_f64"], WITHIN, f"{name} logits in double precision")
            with_bn = network_of(config, state, use_bn=True)(x)
            close(with_bn, expected["logits_with_bn"], WITHIN, f"{name} logits with batch norm")
