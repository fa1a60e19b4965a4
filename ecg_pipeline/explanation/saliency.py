"""Saliency of a task's models (paper: Model Explainability; Figure 5), as pictures and as shares by wave and lead.

The ECGs are chosen by a fixed rule: the positive test ECGs with the highest mean score over the models, one per
patient. Each is explained by FullGrad, and by attention rollout if the model has attention. The share of a map's
magnitude in the QRS complexes, ST segments and T waves is compared with these windows' share of the image's area and of
its ink: a uniform map has the share of the area.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.explanation.delineation import WINDOWS, column_cover, wave_windows
from ecg_pipeline.explanation.recipes import SaliencyRecipe
from ecg_pipeline.explanation.results import LEAD, REST, SHARES, WINDOW, Saliency
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.checkpoints import FinetunedModel
from ecg_pipeline.signals.filters import FilteredWaveforms
from ecg_pipeline.storage.files import write_atomically, write_parquet

REVISION = 5
"""Bumped by hand when this module's results change."""


def explain(
    models: Mapping[str, FinetunedModel],
    recipe: SaliencyRecipe,
    *,
    predictions: Mapping[str, pl.DataFrame],
    images: Mapping[str, ImageShards],
    waveforms: Mapping[str, FilteredWaveforms],
    sheet: SheetRecipe,
    sampling_hz: int,
    out: Path,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Saliency:
    """Explain the chosen ECGs for the first seed of every model, and write pictures and shares to `out`.

    predictions: by model, as `Evaluation.predictions`. images, waveforms: by site. sheet: the layout of the images.
    """
    from ecg_pipeline.explanation.attribution import full_gradient, has_attention, rollout
    from ecg_pipeline.explanation.figures import Explained, page_figure
    from ecg_pipeline.models.family import load_classifier

    chosen = choose(predictions, recipe.ecgs)
    if chosen.is_empty():
        write_parquet(out / "shares.parquet", pl.DataFrame(schema=SHARES))
        return Saliency(out)
    places = list(chosen.select("site", "ecg_id").iter_rows())
    pixels = np.stack([images[site].read_ecgs([ecg_id])[0] for site, ecg_id in places])
    windows = [wave_windows(waveforms[site].read_ecgs([ecg_id])[0], sampling_hz) for site, ecg_id in places]
    leads = lead_masks(sheet)
    of_leads = [(LEAD, *item) for item in leads.items()]
    regions = [of_leads + [(WINDOW, *item) for item in window_masks(found, sheet).items()] for found in windows]
    rows, explained = [], [[] for _ in places]
    for done, (model, tuned) in enumerate(models.items(), start=1):
        classifier = load_classifier(next(iter(tuned.checkpoints().values()))).to(device)
        found = full_gradient(classifier, pixels)
        rolled = rollout(classifier, pixels) if has_attention(classifier) else [None] * len(pixels)
        about = {"model": model, "initialisation": tuned.config()["initialisation"]}
        for place, (ecg_id, score) in enumerate(chosen.select("ecg_id", model).iter_rows()):
            magnitude, ink = np.abs(found.maps[place]), 255.0 - pixels[place]
            shares = {(kind, region): share(magnitude, mask=mask) for kind, region, mask in regions[place]}
            lead_shares = {lead: shares[LEAD, lead] for lead in leads}
            explained[place].append(Explained(model, score, found.maps[place], rolled[place], lead_shares))
            about |= {"ecg": place + 1, "ecg_id": ecg_id, "score": score, "margin": found.margin[place]}
            about |= {"elsewhere": found.elsewhere[place], "error": found.error[place]}
            for kind, region, mask in regions[place]:
                measured = {
                    "share": shares[kind, region],
                    "area_share": mask.mean(),
                    "ink_share": share(ink, mask=mask),
                }
                rows.append({**about, "kind": kind, "region": region, **measured})
        progress(done, len(models))
    for ecg, (image, found, by_model) in enumerate(zip(pixels, windows, explained, strict=True), start=1):
        covers = {name: column_cover(window, sheet) for name, window in (found or {}).items()}
        png = page_figure(image, by_model, covers=covers, recipe=sheet)
        write_atomically(out / f"ecg_{ecg}.png", lambda path, png=png: path.write_bytes(png))
    write_parquet(out / "shares.parquet", pl.DataFrame(rows, schema=SHARES).sort("ecg", maintain_order=True))
    return Saliency(out)


def choose(predictions: Mapping[str, pl.DataFrame], ecgs: int) -> pl.DataFrame:
    """The at most `ecgs` positive ECGs with the highest mean score over the models, one per patient, highest first.

    Columns: ecg_id, site, patient, and by the name of each model its mean score over seeds.
    """
    key = ("ecg_id", "site", "patient")
    tables = [table.select(*key, "label", "score", model=pl.lit(model)) for model, table in predictions.items()]
    scores = [pl.col("score").filter(pl.col("model") == model).mean().alias(model) for model in predictions]
    wide = pl.concat(tables).filter(pl.col("label") == 1).group_by(key).agg(scores)
    order = wide.sort(pl.mean_horizontal(*predictions), "ecg_id", descending=[True, False])
    return order.unique("patient", keep="first", maintain_order=True).head(ecgs)


def lead_masks(recipe: SheetRecipe) -> dict[str, NDArray[np.bool_]]:
    """The cell of each lead as a mask (H, W); cells have equal size."""
    masks, half_px = {}, recipe.cell_px[0] / 2
    for cell in recipe.cells():
        masks[cell.lead] = np.zeros((recipe.height_px, recipe.width_px), bool)
        rows = slice(round(cell.baseline_px - half_px), round(cell.baseline_px + half_px))
        masks[cell.lead][rows, cell.left_px : cell.left_px + cell.width_px] = True
    return masks


def window_masks(
    windows: Mapping[str, NDArray[np.bool_]] | None, recipe: SheetRecipe
) -> dict[str, NDArray[np.float64]]:
    """For each of `WINDOWS` and `REST` its share of every pixel column, as (H, W). Empty for None."""
    if windows is None:
        return {}
    covers = {name: column_cover(windows[name], recipe) for name in WINDOWS}
    covers[REST] = 1 - np.sum(list(covers.values()), axis=0)
    return {name: np.tile(cover, (recipe.height_px, 1)) for name, cover in covers.items()}


def share(magnitude: NDArray[np.floating], *, mask: NDArray) -> float | None:
    """Share of a magnitude (H, W) that lies in a mask (H, W) of weights in [0, 1]; None if the magnitude is all 0."""
    total = magnitude.sum()
    return float((magnitude * mask).sum() / total) if total > 0 else None
