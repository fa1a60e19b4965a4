"""What a saliency output is on disk: pictures, and shares of each map by region."""

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path

import polars as pl

WINDOW, LEAD = "window", "lead"
REST = "rest"
"""What of a sheet no window covers: P waves, baseline, and beats that were not delineated."""

HEADINGS = {"qrs": "QRS complexes", "st": "ST segments", "t": "T waves", REST: "All else"}

SHARES = {
    "ecg": pl.Int64,
    "record": pl.String,
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

CAPTION = (
    "Darker is a larger part of what makes this ECG score other than a blank sheet (FullGrad, magnitude). "
    "The bars along the top are QRS complexes (black), ST segments (orange) and T waves (blue); named are the two "
    "leads with the largest share. Second row: attention rollout of transformers, where it is above the even share; "
    "above the picture its largest value as a multiple of that."
)

WINDOWS_FROM = (
    "the windows are NeuroKit2's. A map that knows nothing of the ECG has the shares of the area, one that knows only "
    "where ink is, those of the ink."
)


@dataclass(frozen=True)
class Saliency:
    """Pictures and shares. Files: `shares.parquet`, and one `ecg_<n>.png` an ECG with the models side by side."""

    folder: Path

    def shares(self) -> pl.DataFrame:
        """One row an ECG, model and region, columns as in `SHARES`.

        kind: `window`, which together cover the sheet, or `lead`, which leave out its margins.
        share, area_share, ink_share: of the map's magnitude, the sheet's area and its ink that lie in the region.
        margin, elsewhere, error: as in `attribution.Attribution`, in logits.
        """
        return pl.read_parquet(self.folder / "shares.parquet")

    def figures(self) -> list[Path]:
        """The pictures, best-scored ECG first."""
        return [self.folder / f"ecg_{ecg}.png" for ecg in self.shares()["ecg"].unique().sort()]

    def summary(self) -> pl.DataFrame:
        """Means over the ECGs, one row a model and window: model, initialisation, window, share, area_share,
        ink_share; ecgs: in how many the waves were found; error: the largest, relative to its margin.
        """
        windows = self.shares().filter(pl.col("kind") == WINDOW)
        return windows.group_by("model", "initialisation", pl.col("region").alias("window"), maintain_order=True).agg(
            pl.col("share", "area_share", "ink_share").mean(),
            pl.len().alias("ecgs"),
            (pl.col("error") / pl.col("margin").abs()).max().alias("error"),
        )

    def page_html(self) -> str:
        """A fragment for a page: the table of shares, and every picture inline."""
        rows = "".join(
            f"<tr><td>{escape(row['model'])}</td><td>{escape(row['initialisation'])}</td><td>{HEADINGS[row['window']]}</td>"
            f"<td>{row['share']:.1%}</td><td>{row['area_share']:.1%}</td><td>{row['ink_share']:.1%}</td></tr>"
            for row in self.summary().fill_nan(None).drop_nulls().iter_rows(named=True)
        )
        head = "<th>".join(("", "Model", "Weights", "Window", "Share of the map", "of the area", "of the ink"))
        pictures = "".join(
            f'<figure><img alt="ECG {number}" src="data:image/png;base64,{_base64(path)}">'
            f"<figcaption>ECG {number}. {CAPTION if number == 1 else ''}</figcaption></figure>"
            for number, path in enumerate(self.figures(), start=1)
        )
        if not pictures:
            return "<p>No test ECG of this task is positive, so none is explained.</p>"
        caption = f"<caption>Where FullGrad's maps lie, mean over {len(self.figures())} ECGs; {WINDOWS_FROM}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{pictures}"


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
