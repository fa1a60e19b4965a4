"""The four limb leads that a cart computes from I and II (Einthoven's law, Goldberger's leads)."""

import numpy as np
from numpy.typing import NDArray


def limb_lead(name: str, i: NDArray, ii: NDArray) -> NDArray:
    """One derived limb lead from leads I and II, of any shape and unit: III = II - I, aVR = -(I + II) / 2,
    aVL = I - II / 2, aVF = II - I / 2. A ValueError for any other name.
    """
    match name:
        case "III":
            return ii - i
        case "aVR":
            return -(i + ii) / 2
        case "aVL":
            return i - ii / 2
        case "aVF":
            return ii - i / 2
    raise ValueError(f"lead {name} was not recorded and cannot be derived")


def derive(x_mv: NDArray) -> NDArray:
    """All twelve LEADS from the eight INDEPENDENT_LEADS.

    x_mv: (..., 8, T) in the order of `ecg.INDEPENDENT_LEADS`. Returns (..., 12, T) in the order of `ecg.LEADS`.
    """
    if x_mv.ndim < 2 or x_mv.shape[-2] != 8:
        raise ValueError(f"twelve leads are derived from (..., 8, T), not from {x_mv.shape}")
    i, ii = x_mv[..., 0, :], x_mv[..., 1, :]
    derived = [limb_lead(name, i, ii) for name in ("III", "aVR", "aVL", "aVF")]
    return np.concatenate([np.stack([i, ii, *derived], axis=-2), x_mv[..., 2:, :]], axis=-2)
