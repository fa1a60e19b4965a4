"""The saliency section of a page: shares of the maps by window, and pictures."""

import base64
from dataclasses import dataclass

from ecg_pipeline.explanation.results import REST, Saliency

WINDOWS = {"qrs": "QRS complexes", "st": "ST segments", "t": "T waves", REST: "All else"}


@dataclass(frozen=True)
class WindowShare:
    """Shares of a model's maps, of the sheet's area and of its ink that lie in one window of the ECG."""

    model: str
    initialisation: str
    window: str
    share: float
    area_share: float
    ink_share: float


@dataclass(frozen=True)
class SaliencySection:
    """The table and the pictures. pictures: base64 of PNG, none where no test ECG is positive."""

    shares: list[WindowShare]
    pictures: list[str]


def saliency_section(saliency: Saliency) -> SaliencySection:
    """The section of one task. Models without a finite share, because no wave was found, are left out."""
    means = saliency.summary().fill_nan(None).drop_nulls()
    shares = [
        WindowShare(
            row["model"],
            row["initialisation"],
            WINDOWS[row["window"]],
            row["share"],
            row["area_share"],
            row["ink_share"],
        )
        for row in means.iter_rows(named=True)
    ]
    return SaliencySection(shares, [base64.b64encode(path.read_bytes()).decode() for path in saliency.figures()])
