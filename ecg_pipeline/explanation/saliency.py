"""Saliency of a task's models (paper: Model Explainability; Figure 5), as pictures and as shares by wave and lead.

The ECGs are chosen by a fixed rule: the positive test ECGs with the highest mean score over the explained models, one
per patient. Each is explained by FullGrad, on what the model reads of it, and by attention rollout if the model has
attention. The share of a map's magnitude in the QRS complexes, ST segments and T waves is compared with these windows'
share of the map's area, which a uniform map has, and of the image's ink. Of an ECG that is several examples to a model,
the first one is explained.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.explanation.delineation import recording_windows
from ecg_pipeline.explanation.recipes import SaliencyRecipe
from ecg_pipeline.explanation.results import LEAD, SHARES, WINDOW, Saliency
from ecg_pipeline.explanation.surfaces import Sheet, Surface, Traces, share, window_masks
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.models.family import IMAGES
from ecg_pipeline.models.load import family_of, load_classifier, recipe_from
from ecg_pipeline.signals.filters import FilterRecipe
from ecg_pipeline.storage.files import write_atomically, write_json, write_parquet
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.checkpoints import FinetunedModel

REVISION = 6
"""Bumped by hand when this module's results change."""


def explain(
    models: Mapping[str, FinetunedModel],
    recipe: SaliencyRecipe,
    *,
    predictions: Mapping[str, pl.DataFrame],
    views: Mapping[str, Mapping[str, ArrayShards]],
    stores: Mapping[str, WaveformStore],
    sheet: SheetRecipe,
    filters: FilterRecipe,
    out: Path,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Saliency:
    """Explain the chosen ECGs for the first seed of every model whose family is explained, and write to `out`.

    predictions: by model, as `Evaluation.predictions`. views: by model, then site, what the model reads. stores: by
    site; waves are delineated on the recordings, filtered by `filters`, over the time that an example shows. sheet: the
    layout of the images.
    """
    from ecg_pipeline.explanation.attribution import full_gradient
    from ecg_pipeline.explanation.figures import Explained, page_figure
    from ecg_pipeline.explanation.rollout import has_attention, rollout

    recipes = {model: recipe_from(tuned.config()["model"]) for model, tuned in models.items()}
    explained = [model for model in models if family_of(recipes[model]).is_explained]
    not_explained = [model for model in models if model not in explained]
    write_json(out / "models.json", {"explained": explained, "not_explained": not_explained})
    chosen = choose({model: predictions[model] for model in explained}, recipe.ecgs)
    if chosen.is_empty():
        write_parquet(out / "shares.parquet", pl.DataFrame(schema=SHARES))
        return Saliency(out)
    places = chosen.select("site", "ecg_id").rows()

    @cache
    def windows_over(seconds: float) -> list[dict[str, NDArray[np.bool_]] | None]:
        """The waves of every chosen ECG, in the first `seconds` of its recording."""
        first = replace(filters, samples=round(seconds * filters.sampling_hz))
        return [recording_windows(stores[site], ecg_id, filters=first) for site, ecg_id in places]

    rows, panels = [], [[] for _ in places]
    for done, model in enumerate(explained, start=1):
        view = views[model]
        examples = _read(view, chosen)
        is_image = recipes[model].view == IMAGES
        surface = Sheet(sheet, filters.seconds) if is_image else _traces(examples, view[places[0][0]].attributes())
        classifier = load_classifier(next(iter(models[model].checkpoints().values()))).to(device)
        found = full_gradient(classifier, examples)
        rolled = rollout(classifier, examples) if has_attention(classifier) else [None] * len(examples)
        about = {"model": model, "initialisation": models[model].config()["initialisation"]}
        for place, (score, windows) in enumerate(zip(chosen[model], windows_over(surface.seconds), strict=True)):
            example, fullgrad = examples[place], found.maps[place]
            about |= {"ecg": place + 1, "ecg_id": places[place][1], "score": score, "margin": found.margin[place]}
            about |= {"elsewhere": found.elsewhere[place], "error": found.error[place]}
            measured = _measure(fullgrad, example, surface=surface, windows=windows)
            rows += [{**about, **row} for row in measured]
            covers = {name: surface.column_cover(window) for name, window in (windows or {}).items()}
            lead_shares = {row["region"]: row["share"] for row in measured if row["kind"] == LEAD}
            panel = Explained(model, score, surface, example, fullgrad, rolled[place], covers, lead_shares)
            panels[place].append(panel)
        progress(done, len(explained))
    for ecg, by_model in enumerate(panels, start=1):
        png = page_figure(by_model, aspect=sheet.height_px / sheet.width_px)
        write_atomically(out / f"ecg_{ecg}.png", lambda path, png=png: path.write_bytes(png))
    write_parquet(out / "shares.parquet", pl.DataFrame(rows, schema=SHARES).sort("ecg", maintain_order=True))
    return Saliency(out)


def choose(predictions: Mapping[str, pl.DataFrame], ecgs: int) -> pl.DataFrame:
    """The at most `ecgs` positive ECGs with the highest mean score over the models, one per patient, highest first.

    ECGs that a model has not scored, because its view leaves them out, are not chosen. Columns: ecg_id, site, patient,
    and by the name of each model its mean score over seeds.
    """
    key = ("ecg_id", "site", "patient")
    if not predictions:
        return pl.DataFrame(schema=dict.fromkeys(key, pl.String))
    tables = [table.select(*key, "label", "score", model=pl.lit(model)) for model, table in predictions.items()]
    scores = [pl.col("score").filter(pl.col("model") == model).mean().alias(model) for model in predictions]
    wide = pl.concat(tables).filter(pl.col("label") == 1).group_by(key).agg(scores).drop_nulls(list(predictions))
    order = wide.sort(pl.mean_horizontal(*predictions), "ecg_id", descending=[True, False])
    return order.unique("patient", keep="first", maintain_order=True).head(ecgs)


def _traces(examples: NDArray, attributes: Mapping[str, Any]) -> Traces:
    """What maps of waveform windows (N, L, T) lie on. attributes: of their array."""
    return Traces(tuple(attributes["leads"]), samples=examples.shape[-1], sampling_hz=attributes["sampling_hz"])


def _read(view: Mapping[str, ArrayShards], chosen: pl.DataFrame) -> NDArray:
    """The first example of each chosen ECG, in order; each shard is read once."""
    found: dict[tuple[str, str], NDArray] = {}
    for (site,), group in chosen.group_by("site", maintain_order=True):
        ecg_ids = group["ecg_id"].to_list()
        found |= {(str(site), ecg_id): x for ecg_id, x in zip(ecg_ids, view[str(site)].read_ecgs(ecg_ids), strict=True)}
    return np.stack([found[place] for place in chosen.select("site", "ecg_id").iter_rows()])


def _measure(
    fullgrad: NDArray[np.float64],
    example: NDArray,
    *,
    surface: Surface,
    windows: Mapping[str, NDArray[np.bool_]] | None,
) -> list[dict[str, Any]]:
    """kind, region and shares of each region of a map, of leads first."""
    magnitude, ink = np.abs(fullgrad), surface.ink(example)
    masks = {LEAD: surface.lead_masks(), WINDOW: window_masks(windows, surface)}
    return [
        {
            "kind": kind,
            "region": region,
            "share": share(magnitude, mask=mask),
            "area_share": mask.mean(),
            "ink_share": None if ink is None else share(ink, mask=mask),
        }
        for kind, regions in masks.items()
        for region, mask in regions.items()
    ]
