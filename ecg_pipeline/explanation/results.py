"""The files of a saliency output: pictures, shares of each map by region, and which errors are explained."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ecg_pipeline.storage.files import read_json

WINDOW, LEAD, SHEET = "window", "lead", "sheet"
REST = "rest"
"""The part of a map that no window covers: P waves, baseline, and beats that were not delineated."""

ON_SHEET, DERIVED_LEADS, LATER_SECONDS = "on_sheet", "derived_leads", "later_seconds"
"""Parts of a waveform map: what a sheet shows, the leads that it lacks, and later seconds of the others."""

FALSE_POSITIVE, FALSE_NEGATIVE = "false_positive", "false_negative"

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
ERRORS = {
    "model": pl.String,
    "kind": pl.String,
    "place": pl.Int64,
    "ecg_id": pl.String,
    "site": pl.String,
    "score": pl.Float64,
    "threshold": pl.Float64,
    "margin": pl.Float64,
    "elsewhere": pl.Float64,
    "error": pl.Float64,
}


@dataclass(frozen=True)
class Picture:
    """A picture of a saliency output and what it shows, in words."""

    title: str
    path: Path


@dataclass(frozen=True)
class Saliency:
    """Pictures and shares. Files: `shares.parquet`, `errors.parquet`, `models.json`, one `ecg_<n>.png` per ECG with the
    models side by side, and one `<kind>_<model>.png` of each model's errors of a kind, side by side."""

    folder: Path

    def shares(self) -> pl.DataFrame:
        """One row per ECG, model and region, columns as in `SHARES`.

        kind: `window` (all windows together cover the map), `lead` (on a sheet, the leads' cells leave out its margins)
        or, of models that read waveforms, `sheet` (what a sheet shows of the map, and what it does not). share,
        area_share, ink_share: of the map's magnitude, its area and the sheet's ink that lie in the region; ink_share is
        null for models that read waveforms. score: mean over the seeds. margin, elsewhere, error: as in
        `attribution.Attribution`, in log-odds, the mean over the examples of an ECG.
        """
        return pl.read_parquet(self.folder / "shares.parquet")

    def errors(self) -> pl.DataFrame:
        """The explained errors, columns as in `ERRORS`: of each model false positives, then false negatives, the most
        confident first.

        score, threshold: of the network that is explained. Empty in outputs from before there was this table.
        """
        path = self.folder / "errors.parquet"
        return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=ERRORS)

    def explained(self) -> list[str]:
        """Names of the models that are explained."""
        return read_json(self.folder / "models.json")["explained"]

    def not_explained(self) -> list[str]:
        """Names of the models that are left out, because FullGrad does not handle their family's networks."""
        return read_json(self.folder / "models.json")["not_explained"]

    def without_threshold(self) -> list[str]:
        """Names of the explained models that have no operating point, so that nothing is an error."""
        return read_json(self.folder / "models.json")["without_threshold"]

    def figures(self) -> list[Path]:
        """The pictures of the models side by side, best-scored ECG first."""
        return [self.folder / f"ecg_{ecg}.png" for ecg in self.shares()["ecg"].unique().sort()]

    def error_figures(self) -> dict[tuple[str, str], Path]:
        """The pictures of errors by model and kind, in the order of `errors`."""
        pairs = self.errors().select("model", "kind").unique(maintain_order=True).rows()
        return {(model, kind): error_figure(self.folder, model=model, kind=kind) for model, kind in pairs}

    def pictures(self) -> list[Picture]:
        """All pictures, those of ECGs first."""
        ecgs = [Picture(f"ECG {number}", path) for number, path in enumerate(self.figures(), start=1)]
        errors = self.error_figures().items()
        return ecgs + [Picture(f"{kind.replace('_', ' ')}s of {model}", path) for (model, kind), path in errors]

    def summary(self, kind: str = WINDOW) -> pl.DataFrame:
        """Means over the ECGs, one row per model and region of a kind: model, initialisation, region, share,
        area_share, ink_share (null for waveforms); ecgs: number of ECGs that have such regions; error: the largest,
        relative to its margin.
        """
        shares = self.shares().filter(pl.col("kind") == kind)
        return shares.group_by("model", "initialisation", "region", maintain_order=True).agg(
            pl.col("share", "area_share", "ink_share").mean(),
            pl.len().alias("ecgs"),
            (pl.col("error") / pl.col("margin").abs()).max().alias("error"),
        )


def error_figure(folder: Path, *, model: str, kind: str) -> Path:
    """The file of a picture of errors."""
    return folder / f"{kind}_{model}.png"
