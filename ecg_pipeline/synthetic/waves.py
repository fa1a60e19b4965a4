"""Morphologies: the waves of one beat as the moving dipole of the heart, in health, in its variants and in disease.

A beat is a table of waves, as in ECGSYN (McSharry et al. 2003) extended to three dimensions (Sameni et al. 2007,
Clifford et al. 2010): each wave is a bell in time, with a rise and a fall of its own, times a fixed dipole vector.
All tables have the same rows, so that a patient between health and disease is a blend of two tables.

The axes are Frank's: x to the patient's left, y down to the feet, z to the back. Amplitudes follow textbook Frank
vectorcardiograms; the diseases follow the usual electrocardiographic criteria and were checked by eye.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Disease = Literal["none", "low_ef", "hcm", "anterior_stemi", "inferior_stemi"]
"""Diseases of the synthetic patients: a low ejection fraction, hypertrophic cardiomyopathy, an acute infarction."""

Variant = Literal["usual", "high_voltage", "early_repolarisation", "right_bundle_delay", "flat_t"]
"""Healthy variation that looks a little like the diseases."""

WAVES = ("P right", "P left", "Q", "R", "R late", "S", "ST", "T")
QRS = slice(2, 6)
ST = 6
T = 7

CENTRE, RISE, FALL = 0, 1, 2
VECTOR = slice(3, 6)


def _table(*rows: tuple[float, float, float, float, float, float]) -> NDArray[np.float64]:
    """(8, 6): per wave its centre (ms after the R wave), widths of rise and fall (ms), and x, y, z (mV).

    The centre and the widths of the T wave are those at 60 beats a minute.
    """
    table = np.array(rows)
    table.setflags(write=False)
    return table


NORMAL = _table(
    (-168, 20, 20, 0.03, 0.07, -0.05),
    (-138, 20, 20, 0.06, 0.05, 0.04),
    (-22, 7, 7, -0.16, -0.05, -0.24),
    (0, 9, 8, 0.92, 0.72, 0.08),
    (14, 8, 8, 0.28, 0.30, 0.66),
    (29, 7, 8, -0.20, -0.08, 0.20),
    (90, 25, 90, 0.02, 0.01, -0.03),
    (285, 58, 34, 0.28, 0.20, -0.19),
)

VARIANTS: dict[Variant, NDArray[np.float64]] = {
    "usual": NORMAL,
    "high_voltage": _table(
        (-168, 20, 20, 0.03, 0.07, -0.05),
        (-135, 22, 24, 0.07, 0.05, 0.07),
        (-24, 8, 7, -0.18, -0.05, -0.25),
        (0, 12, 10, 1.80, 0.85, 0.25),
        (18, 10, 10, 0.55, 0.35, 1.25),
        (36, 9, 10, -0.15, -0.08, 0.30),
        (95, 25, 95, -0.06, -0.03, -0.04),
        (285, 62, 36, 0.02, 0.10, -0.20),
    ),
    "early_repolarisation": _table(
        (-168, 20, 20, 0.03, 0.07, -0.05),
        (-138, 20, 20, 0.06, 0.05, 0.04),
        (-22, 7, 7, -0.18, -0.05, -0.26),
        (0, 10, 9, 1.25, 0.90, 0.05),
        (16, 9, 9, 0.30, 0.32, 0.75),
        (40, 7, 9, 0.12, 0.12, 0.05),
        (80, 16, 110, 0.12, 0.08, -0.14),
        (275, 62, 36, 0.42, 0.28, -0.34),
    ),
    "right_bundle_delay": _table(
        (-168, 20, 20, 0.03, 0.07, -0.05),
        (-138, 20, 20, 0.06, 0.05, 0.04),
        (-22, 7, 7, -0.18, -0.05, -0.26),
        (0, 9, 8, 0.92, 0.72, 0.08),
        (18, 9, 9, 0.25, 0.25, 0.60),
        (58, 16, 17, -0.50, 0.02, -0.48),
        (110, 25, 80, 0.03, 0.01, 0.03),
        (295, 58, 34, 0.30, 0.18, 0.02),
    ),
    "flat_t": _table(
        (-168, 20, 20, 0.03, 0.07, -0.05),
        (-138, 20, 20, 0.06, 0.05, 0.04),
        (-22, 7, 7, -0.12, -0.05, -0.20),
        (0, 10, 9, 0.90, 0.55, 0.10),
        (16, 9, 9, 0.30, 0.25, 0.70),
        (34, 9, 10, -0.15, -0.05, 0.25),
        (100, 28, 95, -0.05, -0.03, 0.02),
        (290, 60, 38, 0.02, 0.04, -0.08),
    ),
}

DISEASES: dict[Disease, NDArray[np.float64]] = {
    "none": NORMAL,
    # Left bundle branch block: no septal Q, broad notched R to the left, deep S in front, ST and T against the QRS.
    "low_ef": _table(
        (-205, 20, 22, 0.03, 0.06, -0.05),
        (-172, 22, 24, 0.07, 0.04, 0.09),
        (-34, 10, 14, 0.16, 0.12, 0.06),
        (-2, 15, 17, 0.78, 0.34, 0.55),
        (38, 15, 16, 0.52, 0.08, 1.15),
        (68, 14, 13, 0.82, 0.02, 0.55),
        (135, 28, 95, -0.12, -0.02, -0.22),
        (315, 62, 40, -0.40, -0.08, -0.46),
    ),
    # High voltage, narrow deep septal Q, deep inversion of T in I, aVL and V3 to V6.
    "hcm": _table(
        (-170, 22, 22, 0.03, 0.07, -0.06),
        (-134, 23, 25, 0.08, 0.05, 0.09),
        (-21, 7, 6, -0.75, -0.42, -0.50),
        (0, 11, 10, 1.95, 1.00, 0.10),
        (18, 10, 10, 0.60, 0.35, 1.20),
        (36, 9, 10, -0.20, -0.10, 0.30),
        (100, 26, 95, -0.12, -0.06, 0.04),
        (292, 56, 40, -0.58, -0.16, 0.16),
    ),
    # Injury current to the front: domed ST elevation V1 to V4, R lost in front, ST depression in III and aVF.
    "anterior_stemi": _table(
        (-168, 20, 20, 0.03, 0.07, -0.05),
        (-138, 20, 20, 0.06, 0.05, 0.04),
        (-22, 8, 8, -0.02, -0.02, 0.06),
        (0, 10, 10, 0.80, 0.60, 0.35),
        (16, 10, 10, 0.30, 0.30, 0.70),
        (38, 9, 10, -0.10, -0.05, 0.10),
        (84, 17, 125, 0.22, -0.22, -0.46),
        (262, 72, 44, 0.35, -0.06, -0.52),
    ),
    # Injury current to the feet and right: ST elevation II, III, aVF (III the most), depression in I, aVL and V2, V3.
    "inferior_stemi": _table(
        (-172, 20, 20, 0.03, 0.07, -0.05),
        (-142, 20, 20, 0.06, 0.05, 0.04),
        (-24, 9, 9, -0.10, -0.34, -0.18),
        (0, 10, 10, 0.95, 0.55, 0.10),
        (16, 9, 9, 0.30, 0.25, 0.65),
        (36, 9, 10, -0.15, 0.05, 0.20),
        (84, 17, 125, -0.22, 0.46, 0.07),
        (262, 72, 44, -0.06, 0.52, -0.02),
    ),
}

PREMATURE = _table(
    (-168, 20, 20, 0, 0, 0),
    (-138, 20, 20, 0, 0, 0),
    (-34, 18, 18, 0.20, -0.30, -0.20),
    (0, 22, 22, 1.00, -1.10, 0.60),
    (44, 20, 22, 0.55, -0.70, 1.00),
    (80, 18, 20, 0.15, 0.20, 0.60),
    (150, 35, 90, -0.18, 0.22, -0.24),
    (320, 70, 48, -0.62, 0.66, -0.62),
)
"""A premature ventricular beat: no P wave, broad and bizarre."""


def blend(table: NDArray[np.float64], target: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The table that lies `share` of the way from `table` to `target`."""
    return (1 - share) * table + share * target


def with_disease(table: NDArray[np.float64], disease: Disease, severity: float) -> NDArray[np.float64]:
    """(8, 6): a person's table with the changes that a disease makes to the normal one, `severity` (0 to 1) of them."""
    sick = table + severity * (DISEASES[disease] - NORMAL)
    # Opposite changes of width may cancel: no wave is narrower than 4 ms.
    sick[:, RISE : FALL + 1] = sick[:, RISE : FALL + 1].clip(min=4)
    return sick
