"""How the released code of ECG-FM weighs positives."""

import numpy as np
from numpy.typing import NDArray


def positive_weights(labels: NDArray) -> NDArray[np.float64]:
    """Negatives over positives of each label: (N, K) of 0 and 1 -> (K,)."""
    positives = labels.sum(axis=0)
    return (len(labels) - positives) / positives
