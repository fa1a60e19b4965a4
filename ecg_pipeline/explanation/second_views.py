"""What stands below FullGrad in a picture: where a network with attention attends. A family names the view it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.explanation.attention import attention_weights
from ecg_pipeline.explanation.attention_curve import attention_curve
from ecg_pipeline.explanation.figures import rollout_strength
from ecg_pipeline.explanation.rollout import has_attention, rollout
from ecg_pipeline.explanation.surfaces import Surface
from ecg_pipeline.training.classifier import Classifier


@dataclass(frozen=True)
class SecondView:
    """A view beside FullGrad.

    compute: stored examples (B, ...) -> values (B, ..., T), whose last axis is time if the examples are waveforms; None
    for a network without attention. strength: of the values of one ECG, in [0, 1], a map of the surface or one row for
    all leads. title: of a panel, from these values.
    """

    compute: Callable[[Classifier, NDArray], NDArray[np.float64] | None]
    strength: Callable[[NDArray[np.float64], Surface], NDArray[np.floating]]
    title: Callable[[NDArray[np.float64]], str]


def last_layer_curve(classifier: Classifier, examples: NDArray) -> NDArray[np.float64]:
    """The attention curve (B, T - 1) of waveforms (B, L, T): of the last layer, the mean over its heads."""
    weights, _ = attention_weights(classifier, examples)
    if not weights:
        raise ValueError(f"{type(classifier).__name__} has no attention, so no curve")
    return attention_curve(weights[-1].mean(dim=1).cpu().numpy(), examples.shape[-1])


SECOND_VIEWS: Mapping[str, SecondView] = {
    "rollout": SecondView(
        compute=lambda classifier, images: rollout(classifier, images) if has_attention(classifier) else None,
        strength=rollout_strength,
        title=lambda rolled: f"attention rollout, maximum {rolled.max() / rolled.mean():.2f} x mean",
    ),
    "attention_curve": SecondView(
        compute=last_layer_curve,
        strength=lambda curve, surface: curve[None],
        title=lambda curve: "attention of the last layer",
    ),
}
"""By the names of `Family.second_view`."""
