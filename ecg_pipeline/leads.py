"""The four limb leads that a cart computes from I and II (Einthoven's law, Goldberger's leads)."""

import numpy as np
from numpy.typing import NDArray


def derive(x_mv: NDArray) -> NDArray:
    """All twelve LEADS from the eight INDEPENDENT_LEADS.

    x_mv: (..., 8, T) in the order of `ecg.INDEPENDENT_LEADS`. Returns (..., 12, T) in the order of `ecg.LEADS`.
    III = II - I, aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2.
    """
    if x_mv.ndim < 2 or x_mv.shape[-2] != 8:
        raise ValueError(f"twelve leads are derived from (..., 8, T), not from {x_mv.shape}")
    i, ii = x_mv[..., 0, :], x_mv[..., 1, :]
    limb = np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2], axis=-2)
    return np.concatenate([limb, x_mv[..., 2:, :]], axis=-2)
