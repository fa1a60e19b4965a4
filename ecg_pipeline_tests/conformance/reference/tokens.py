"""DALL-E's encoder and decoder, and the discrete VAE of BEiT's authors, as functions of their weights."""

from math import log
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, relu

from ecg_pipeline_tests.conformance.reference.write import Files

State = dict[str, Tensor]
GAIN = 2.0
"""What weights are larger by than their fan-in asks for, so that scaled residual branches show in the output."""


def write_dalle(files: Files, config: dict[str, Any], generator: torch.Generator) -> None:
    """The kinds dalle_encoder, dalle_decoder and dalle_pixels."""
    h, vocabulary, blocks = config["n_hid"], config["vocab_size"], config["n_blk_per_group"]
    scale = (4 * blocks) ** -2
    images = torch.rand(config["batch"], 3, config["size"], config["size"], generator=generator)
    state = _dalle_state((3, h, h, 2 * h, 4 * h, 8 * h), 7, (3, 3, 3, 1), blocks, vocabulary, generator)
    x = _conv(map_pixels(images), state, "blocks.input")
    for group in (1, 2, 3, 4):
        x = _group(x, state, group, blocks, scale)
        if group < 4:
            x = x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).amax(dim=(-1, -3))
    logits = _conv(relu(x), state, "blocks.output.conv")
    top = logits.topk(2, dim=1).values
    assert float((top[:, 0] - top[:, 1]).min()) > 1e-3, "two tokens are all but equally likely: take another seed"
    tensors = {"input.images_01": images, "input.mapped": map_pixels(images)}
    tensors |= {"output.logits": logits, "output.tokens": logits.argmax(dim=1)}
    files.write("dalle_encoder", {"config": config, "param_names": list(state)}, tensors | _prefixed(state))

    widths = (vocabulary, config["n_init"], 8 * h, 4 * h, 2 * h, h)
    state = _dalle_state(widths, 1, (1, 3, 3, 3), blocks, 6, generator)

    def statistics(codes: Tensor) -> Tensor:
        x = _conv(codes, state, "blocks.input")
        for group in (1, 2, 3, 4):
            x = _group(x, state, group, blocks, scale)
            if group < 4:
                x = x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
        return _conv(relu(x), state, "blocks.output.conv")

    tokens = torch.randint(vocabulary, (config["batch"], config["size"] // 8, config["size"] // 8), generator=generator)
    hard = statistics(torch.eye(vocabulary)[tokens].permute(0, 3, 1, 2))
    soft_codes = torch.softmax(2 * torch.randn(len(tokens), vocabulary, *tokens.shape[1:], generator=generator), dim=1)
    tensors = {"input.tokens": tokens, "input.soft_codes": soft_codes, "output.stats_hard": hard}
    tensors |= {"output.stats_soft": statistics(soft_codes)}
    tensors |= {"output.reconstruction_hard": ((torch.sigmoid(hard[:, :3]) - 0.1) / 0.8).clip(0, 1)}
    files.write("dalle_decoder", {"config": config, "param_names": list(state)}, tensors | _prefixed(state))

    given, back = torch.rand(2, 3, 5, 7, generator=generator), torch.linspace(-0.3, 1.3, 37).reshape(1, 1, 1, 37)
    tensors = {"map.in": given, "map.out": map_pixels(given)}
    tensors |= {"unmap.in": back, "unmap.out": ((back - 0.1) / 0.8).clip(0, 1)}
    files.write("dalle_pixels", {"eps": 0.1}, tensors)


def map_pixels(x: Tensor) -> Tensor:
    """[0, 1] -> [0.1, 0.9]."""
    return 0.8 * x + 0.1


def write_vae(files: Files, config: dict[str, Any], generator: torch.Generator) -> None:
    """The kind discrete_vae."""
    hidden, vocabulary, layers = config["hidden_dim"], config["num_tokens"], config["num_layers"]
    code_width = config["codebook_dim"]

    def drawn(*shape: int, gain: float = 1.0) -> Tensor:
        return gain * torch.randn(shape, generator=generator)

    state = {"codebook.weight": drawn(vocabulary, code_width)}
    for part, before, last in (("encoder", 3, vocabulary), ("decoder", code_width, 3)):
        for layer in range(layers):
            width = before if layer == 0 else hidden
            sides = (hidden, width) if part == "encoder" else (width, hidden)
            state[f"{part}.{2 * layer}.0.weight"] = drawn(*sides, 4, 4, gain=1.4 * (16 * width) ** -0.5)
            state[f"{part}.{2 * layer}.0.bias"] = drawn(hidden, gain=0.2)
            for place, kernel in ((0, 3), (2, 3), (4, 1)):
                name = f"{part}.{2 * layer + 1}.net.{place}"
                state[f"{name}.weight"] = drawn(hidden, hidden, kernel, kernel, gain=(kernel**2 * hidden) ** -0.5)
                state[f"{name}.bias"] = drawn(hidden, gain=0.2)
        state[f"{part}.{2 * layers}.weight"] = drawn(last, hidden, 1, 1, gain=hidden**-0.5)
        state[f"{part}.{2 * layers}.bias"] = drawn(last, gain=0.2)

    size = config["image_size"]
    images = 2 * torch.rand(config["batch"], 3, size, size, generator=generator) - 1
    logits = _vae_half(images, state, "encoder", layers)
    noise = -torch.log(-torch.log(torch.rand(logits.shape, generator=generator).clip(1e-9, 1 - 1e-6)))
    codes = torch.softmax((logits + noise) / config["temperature"], dim=1)
    vectors = (codes.movedim(1, -1) @ state["codebook.weight"]).movedim(-1, 1)
    reconstruction = _vae_half(vectors, state, "decoder", layers)
    share = torch.softmax(logits, dim=1)
    divergence = (share * (share.log() + log(vocabulary))).sum(dim=1).flatten(1)
    mse = ((reconstruction - images) ** 2).mean()
    loss = mse + config["kl"] * divergence.sum()
    tensors = {"input.images": images, "input.gumbel_noise": noise, "output.logits": logits}
    tensors |= {"output.indices": logits.argmax(dim=1), "output.soft_one_hot": codes}
    tensors |= {"output.reconstruction": reconstruction, "output.kl_per_position": divergence}
    tensors |= {"output.mse": mse.reshape(1), "output.loss": loss.reshape(1)}
    facts = {"config": config, "loss": loss.item(), "kl_sum": divergence.sum().item(), "mse": mse.item()}
    files.write("discrete_vae", facts, tensors | _prefixed(state))


def _vae_half(x: Tensor, state: State, part: str, layers: int) -> Tensor:
    resample = conv2d if part == "encoder" else conv_transpose2d
    for layer in range(layers):
        name = f"{part}.{2 * layer}.0"
        x = relu(resample(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2, padding=1))
        branch = x
        for place, padding in ((0, 1), (2, 1), (4, 0)):
            name = f"{part}.{2 * layer + 1}.net.{place}"
            branch = relu(branch) if place else branch
            branch = conv2d(branch, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)
        x = x + branch
    return conv2d(x, state[f"{part}.{2 * layers}.weight"], state[f"{part}.{2 * layers}.bias"])


def _dalle_state(
    widths: tuple[int, ...],
    first_kernel: int,
    kernels: tuple[int, ...],
    blocks: int,
    outputs: int,
    generator: torch.Generator,
) -> State:
    """widths: of the input, of the first layer, and of the four groups."""
    state: State = {}

    def conv(name: str, inputs: int, outputs: int, kernel: int) -> None:
        fan = inputs * kernel**2
        state[f"{name}.w"] = GAIN * torch.randn(outputs, inputs, kernel, kernel, generator=generator) / fan**0.5
        state[f"{name}.b"] = 0.2 * torch.randn(outputs, generator=generator)

    conv("blocks.input", widths[0], widths[1], first_kernel)
    for group in (1, 2, 3, 4):
        inputs, width = widths[group], widths[group + 1]
        for block in range(1, blocks + 1):
            name = f"blocks.group_{group}.block_{block}"
            if inputs != width:
                conv(f"{name}.id_path", inputs, width, 1)
            for number, kernel in enumerate(kernels, start=1):
                before = inputs if number == 1 else width // 4
                conv(f"{name}.res_path.conv_{number}", before, width if number == 4 else width // 4, kernel)
            inputs = width
    conv("blocks.output.conv", widths[5], outputs, 1)
    return state


def _group(x: Tensor, state: State, group: int, blocks: int, scale: float) -> Tensor:
    for block in range(1, blocks + 1):
        name = f"blocks.group_{group}.block_{block}"
        branch = x
        for number in (1, 2, 3, 4):
            branch = _conv(relu(branch), state, f"{name}.res_path.conv_{number}")
        straight = _conv(x, state, f"{name}.id_path") if f"{name}.id_path.w" in state else x
        x = straight + scale * branch
    return x


def _conv(x: Tensor, state: State, name: str) -> Tensor:
    weights = state[f"{name}.w"]
    return conv2d(x, weights, state[f"{name}.b"], padding=weights.shape[-1] // 2)


def _prefixed(state: State) -> State:
    return {f"state.{name}": tensor for name, tensor in state.items()}
