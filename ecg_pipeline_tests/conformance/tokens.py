"""Checks of the tokenizers: DALL-E's networks and pixels, the authors' own discrete VAE."""

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, one_hot

from ecg_pipeline.tokens.dalle_networks import DalleEncoder, DalleShape, encoder_shape
from ecg_pipeline.tokens.discrete_vae import relaxed_codes
from ecg_pipeline.tokens.pixels import map_pixels
from ecg_pipeline_tests.conformance.fixtures import Fixture, close
from ecg_pipeline_tests.conformance.released.customised_vae import (
    CustomisedShape,
    CustomisedVae,
    divergence_from_uniform,
    official_loss,
)
from ecg_pipeline_tests.conformance.released.dalle_decoder import DalleDecoder
from ecg_pipeline_tests.conformance.released.views import unmap_pixels


def dalle_encoder(fixture: Fixture) -> None:
    config, tensors, state = fixture.facts["config"], fixture.tensors, fixture.named("state.")
    shape = encoder_shape(state)
    assert (shape.hidden, shape.blocks_per_group) == (config["n_hid"], config["n_blk_per_group"])
    assert shape.vocabulary == config["vocab_size"]
    encoder = DalleEncoder(shape)
    encoder.load_state_dict(state)
    mapped = map_pixels(tensors["input.images_01"])
    close(mapped, tensors["input.mapped"], 1e-6, "mapped pixels")
    logits = encoder(mapped)
    close(logits, tensors["output.logits"], 1e-4, "logits")
    assert torch.equal(logits.argmax(dim=1), tensors["output.tokens"].long()), "tokens differ"


def dalle_decoder(fixture: Fixture) -> None:
    config, tensors = fixture.facts["config"], fixture.tensors
    decoder = DalleDecoder(
        DalleShape(
            hidden=config["n_hid"],
            blocks_per_group=config["n_blk_per_group"],
            vocabulary=config["vocab_size"],
        ),
        code_width=config["n_init"],
    )
    decoder.load_state_dict(fixture.named("state."))
    hard = decoder(_one_hot(tensors["input.tokens"], config["vocab_size"]))
    close(hard, tensors["output.stats_hard"], 1e-4, "statistics of tokens")
    close(decoder(tensors["input.soft_codes"]), tensors["output.stats_soft"], 1e-4, "statistics of soft codes")
    reconstructed = unmap_pixels(torch.sigmoid(hard[:, :3]))
    close(reconstructed, tensors["output.reconstruction_hard"], 1e-4, "reconstruction")


def dalle_pixels(fixture: Fixture) -> None:
    tensors = fixture.tensors
    close(map_pixels(tensors["map.in"]), tensors["map.out"], 1e-6, "mapped pixels")
    close(unmap_pixels(tensors["unmap.in"]), tensors["unmap.out"], 1e-6, "unmapped pixels")


def discrete_vae(fixture: Fixture) -> None:
    config, tensors = fixture.facts["config"], fixture.tensors
    images = tensors["input.images"]
    shape = CustomisedShape(
        vocabulary=config["num_tokens"],
        code_width=config["codebook_dim"],
        halvings=config["num_layers"],
        hidden=config["hidden_dim"],
        channels=images.shape[1],
    )
    network = CustomisedVae(shape)
    network.load_official_state(fixture.named("state."))
    logits = network.encode(images)
    close(logits, tensors["output.logits"], 1e-5, "logits")
    assert torch.equal(logits.argmax(dim=1), tensors["output.indices"].long()), "tokens differ"
    codes = relaxed_codes(logits, noise=tensors["input.gumbel_noise"], temperature=config["temperature"])
    close(codes, tensors["output.soft_one_hot"], 1e-5, "soft codes")
    reconstructed = network.decode(codes)
    close(reconstructed, tensors["output.reconstruction"], 1e-5, "reconstruction")
    divergence = divergence_from_uniform(logits)
    close(divergence, tensors["output.kl_per_position"], 1e-5, "divergence of each position")
    _close_loss(mse_loss(reconstructed, images), tensors["output.mse"])
    _close_loss(divergence.sum(), torch.tensor(fixture.facts["kl_sum"]))
    loss = official_loss(images, logits=logits, reconstructed=reconstructed, divergence_weight=config["kl"])
    _close_loss(loss, tensors["output.loss"])


def _close_loss(found: Tensor, expected: Tensor) -> None:
    close(found.reshape(1), expected.reshape(1), 1e-4 * float(expected), "loss")


def _one_hot(tokens: Tensor, vocabulary: int) -> Tensor:
    """(B, H, W) -> (B, V, H, W) float."""
    return one_hot(tokens.long(), vocabulary).permute(0, 3, 1, 2).float()
