"""Real ECGs for the tests of waveforms and of sheets."""

import lzma
from pathlib import Path

import numpy as np


def read_ptb_xl(shared: Path, count: int) -> np.ndarray:
    """The first `count` PTB-XL records (n, 12, 5000) in millivolts at 500 Hz.

    Stored as int16 differences along time; the derived limb leads as residuals against what I and II predict.
    """
    with lzma.open(shared / "data" / "ptbxl" / "waveforms_00.npy.xz") as file:
        np.lib.format.read_magic(file)
        (_, leads, samples), _, dtype = np.lib.format.read_array_header_1_0(file)
        content = file.read(count * leads * samples * dtype.itemsize)
    counts = np.cumsum(np.frombuffer(content, dtype).reshape(count, leads, samples), axis=2, dtype=np.int16).astype(int)
    one, two = counts[:, 0], counts[:, 1]
    counts[:, 2] += two - one
    counts[:, 3] -= (one + two) // 2
    counts[:, 4] += (2 * one - two) // 2
    counts[:, 5] += (2 * two - one) // 2
    return counts / 1000
