"""The saliency section of a page: shares of the maps by window, and pictures."""

import base64
from dataclasses import dataclass

from ecg_pipeline.explanation.results import REST, Saliency

WINDOWS = {"qrs": "QRS complexes", "st": "ST segments", "t": "T waves", REST: "All else"}


@dataclass(frozen=True)
class WindowShare:
    """Shares of a model's maps, of their area and of the sheet's ink that lie in one window of the ECG.

    ink_share: None for a model that reads waveforms.
    """

    model: str
    window: str
    share: float
    area_share: float
    ink_share: float | None


@dataclass(frozen=True)
class SaliencySection:
    """The table and the pictures.

    pictures: base64 of PNG, none where no test ECG is positive. explained, not_explained: names of models.
    """

    shares: list[WindowShare]
    pictures: list[str]
    explained: list[str]
    not_explained: list[str]


def saliency_section(saliency: Saliency) -> SaliencySection:
    """The section of one task. Models without a finite share, because no wave was found, are left out."""
    means = saliency.summary().fill_nan(None).drop_nulls("share")
    shares = [
        WindowShare(
            row["model"],
            WINDOWS[row["window"]],
            row["share"],
            row["area_share"],
            row["ink_share"],
        )
        for row in means.iter_rows(named=True)
    ]
    pictures = [base64.b64encode(path.read_bytes()).decode() for path in saliency.figures()]
    return SaliencySection(shares, pictures, saliency.explained(), saliency.not_explained())
