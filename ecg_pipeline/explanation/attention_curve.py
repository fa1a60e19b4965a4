"""The curve over time that ECG-FM's authors show for attention."""

import numpy as np
from numpy.typing import NDArray


def attention_curve(attention: NDArray, samples: int) -> NDArray[np.float64]:
    """Each frame's largest attention weight over time, from 0 to 1 in each example: (B, T, T) -> (B, samples - 1).

    attention: mean over heads of one layer, queries by keys. samples: of the example. As in the released code, the
    largest weight is taken over keys: it says how sharply a frame attends, not how much attention it receives. The
    frames are joined by a cubic spline. A curve that does not vary is 0.
    """
    from scipy.ndimage import map_coordinates

    sharpest = np.asarray(attention, np.float64).max(axis=2)
    places = np.linspace(0, sharpest.shape[1] - 1, samples - 1)
    curves = np.stack([map_coordinates(frames, [places], order=3) for frames in sharpest])
    lowest, span = curves.min(axis=1, keepdims=True), np.ptp(curves, axis=1, keepdims=True)
    return (curves - lowest) / np.where(span > 0, span, 1)
