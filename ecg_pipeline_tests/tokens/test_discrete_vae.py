"""The small discrete VAE: shapes, first codes, and noise."""

import torch
from torch.nn.functional import one_hot

from ecg_pipeline.tokens.discrete_vae import DiscreteVae, gumbel_noise


def test_a_token_is_eight_pixels():
    network = DiscreteVae(vocabulary=20, hidden=4).eval()
    ink = torch.rand(2, 1, 112, 112)
    logits = network.encode(ink)
    assert logits.shape == (2, 20, 14, 14)
    reconstructed = network.decode(one_hot(logits.argmax(1), 20).permute(0, 3, 1, 2).float())
    assert reconstructed.shape == ink.shape
    assert reconstructed.min() >= 0
    assert reconstructed.max() <= 1


def test_codes_start_different_where_patches_differ():
    torch.manual_seed(0)
    network = DiscreteVae(vocabulary=64, hidden=8).train()
    ink = torch.zeros(4, 1, 112, 112)
    ink[:, :, 50:58] = torch.rand(4, 1, 8, 112)
    ids = network.encode(ink).argmax(1)
    blank = ids[:, 11:13, 2:12]
    assert blank.unique().numel() == 1
    assert ids[:, 6:7].unique().numel() > 8


def test_gumbel_noise_is_seeded_and_has_the_gumbel_mean():
    like = torch.zeros(200, 200)
    noise = gumbel_noise(like, torch.Generator().manual_seed(1))
    assert torch.equal(noise, gumbel_noise(like, torch.Generator().manual_seed(1)))
    assert torch.isfinite(noise).all()
    assert abs(float(noise.mean()) - 0.5772) < 0.03
