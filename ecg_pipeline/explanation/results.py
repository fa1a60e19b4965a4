"""The files of a saliency output: pictures, and shares of each map by region."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ecg_pipeline.storage.files import read_json

WINDOW, LEAD = "window", "lead"
REST = "rest"
"""The part of a map that no window covers: P waves, baseline, and beats that were not delineated."""

SHARES = {
    "ecg": pl.Int64,
    "ecg_id": pl.String,
    "model": pl.String,
    "initialisation": pl.String,
    "score": pl.Float64,
    "kind": pl.String,
    "region": pl.String,
    "share": pl.Float64,
    "area_share": pl.Float64,
    "ink_share": pl.Float64,
    "margin": pl.Float64,
    "elsewhere": pl.Float64,
    "error": pl.Float64,
}


@dataclass(frozen=True)
class Saliency:
    """Pictures and shares. Files: `shares.parquet`, `models.json`, and one `ecg_<n>.png` per ECG with the models
    side by side."""

    folder: Path

    def shares(self) -> pl.DataFrame:
        """One row per ECG, model and region, columns as in `SHARES`.

        kind: `window` (all windows together cover the map) or `lead` (on a sheet, the leads' cells leave out its
        margins). share, area_share, ink_share: of the map's magnitude, its area and the sheet's ink that lie in the
        region; ink_share is null for models that read waveforms. score: mean over the seeds. margin, elsewhere, error:
        as in `attribution.Attribution`, in log-odds.
        """
        return pl.read_parquet(self.folder / "shares.parquet")

    def explained(self) -> list[str]:
        """Names of the models that are explained."""
        return read_json(self.folder / "models.json")["explained"]

    def not_explained(self) -> list[str]:
        """Names of the models that are left out, because FullGrad does not handle their family's networks."""
        return read_json(self.folder / "models.json")["not_explained"]

    def figures(self) -> list[Path]:
        """The pictures, best-scored ECG first."""
        return [self.folder / f"ecg_{ecg}.png" for ecg in self.shares()["ecg"].unique().sort()]

    def summary(self) -> pl.DataFrame:
        """Means over the ECGs, one row per model and window: model, initialisation, window, share, area_share,
        ink_share (null for waveforms); ecgs: number of ECGs in which waves were found; error: the largest, relative to
        its margin.
        """
        windows = self.shares().filter(pl.col("kind") == WINDOW)
        return windows.group_by("model", "initialisation", pl.col("region").alias("window"), maintain_order=True).agg(
            pl.col("share", "area_share", "ink_share").mean(),
            pl.len().alias("ecgs"),
            (pl.col("error") / pl.col("margin").abs()).max().alias("error"),
        )
