"""Weights and inputs that need not be stored: a fixture's folder holds a copy of this file.

Not the rule of any published fixture; only the two functions and their arguments are the same.
"""

import hashlib

import numpy as np


def fill(key, shape, salt=0):
    """A tensor's values, by its name, its shape and a number."""
    seed = int.from_bytes(hashlib.sha256(f"{salt}:{key}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    if key.endswith("num_batches_tracked"):
        return np.asarray(5, np.int64)
    if key.endswith("running_var"):
        return rng.uniform(0.4, 1.8, shape).astype(np.float32)
    if len(shape) == 1:
        around = 1.0 if ".bn" in key and key.endswith("weight") else 0.0
        return (around + 0.15 * rng.standard_normal(shape)).astype(np.float32)
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def signal(shape, seed):
    """Waveforms."""
    rng = np.random.default_rng(seed)
    return (np.cumsum(rng.standard_normal(shape), axis=-1) / 20 + rng.standard_normal(shape)).astype(np.float32)
