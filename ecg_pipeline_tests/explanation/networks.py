"""Networks to explain: one recipe a family, and planted ones."""

import torch
from torch import nn

from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.heartbeit.recipes import HeartBeitRecipe
from ecg_pipeline.models.normalisation import WHITE, normalise
from ecg_pipeline.training.classifier import Classifier

RECIPES = {
    "resnet": TimmRecipe(name="test_resnet"),
    "mobilenet": TimmRecipe(name="mobilenetv3_small_050"),
    "efficientnet": TimmRecipe(name="test_efficientnet"),
    "convnext": TimmRecipe(name="test_convnext"),
    "vit": TimmRecipe(name="test_vit"),
    "beit": HeartBeitRecipe(width=32, depth=2, heads=2),
}


class OnWaveforms(Classifier):
    """Any network and a linear head, on waveforms as they are."""

    def __init__(self, network, head):
        super().__init__()
        self.network, self.head = network, head
        self.eval()

    def normalise(self, x):
        return x

    def encode(self, x):
        return self.network(x)

    def classify(self, features):
        return self.head(features)


class OnImages(OnWaveforms):
    """The same on images, normalised to [-1, 1]."""

    blank = WHITE

    def normalise(self, x):
        return normalise(x, mean=(0.5,) * 3, std=(0.5,) * 3)


class OneHalf(nn.Module):
    """The mean over the first half of the time of another network's output."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)[..., : x.shape[-1] // 2].mean(-1)


def perturb(classifier):
    """Make every weight, bias and running mean other than at the start."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in classifier.state_dict().items():
        if tensor.is_floating_point() and not name.endswith("running_var"):
            tensor += torch.randn(tensor.shape, generator=generator) * (0.02 if tensor.ndim > 1 else 0.1)
    return classifier.eval()


def of_size(classifier, images):
    """Images cut to the size that a network takes."""
    size = getattr(getattr(classifier.network, "patch_embed", None), "img_size", None)
    return images[:, : size[0], : size[1]].copy() if size else images
