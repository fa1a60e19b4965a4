"""Saliency of a task's models (paper: Model Explainability; Figure 5), as pictures and as shares by wave and lead.

The ECGs are chosen by a fixed rule: the positive test ECGs with the highest mean score over the explained models, one
per patient. Each is explained by FullGrad, on what the model reads of it, and by the second view of the model's family.
The share of a map's magnitude in the QRS complexes, ST segments and T waves is compared with these windows' share of
the map's area, which a uniform map has, and of the image's ink. Of a map of waveforms is said how much of it lies where
a sheet shows nothing. Beside them, each model's most confident errors are explained in the same way.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.explanation.delineation import recording_windows
from ecg_pipeline.explanation.recipes import SaliencyRecipe
from ecg_pipeline.explanation.results import ERRORS, FALSE_NEGATIVE, FALSE_POSITIVE, SHARES, Saliency, error_figure
from ecg_pipeline.explanation.surfaces import Sheet
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.models.load import family_of, recipe_from
from ecg_pipeline.signals.filters import FilterRecipe
from ecg_pipeline.storage.files import write_json, write_parquet
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.checkpoints import FinetunedModel

if TYPE_CHECKING:
    from ecg_pipeline.explanation.explainer import Explainer

REVISION = 8
"""Bumped by hand when this module's results change."""

OPERATING_POINT = "youden"
"""The operating point that errors are counted at: the largest sensitivity + specificity on validation patients."""


def explain(
    models: Mapping[str, FinetunedModel],
    recipe: SaliencyRecipe,
    *,
    predictions: Mapping[str, pl.DataFrame],
    thresholds: Mapping[str, Mapping[int, Mapping[str, float]]],
    views: Mapping[str, Mapping[str, ArrayShards]],
    stores: Mapping[str, WaveformStore],
    sheet: SheetRecipe,
    filters: FilterRecipe,
    out: Path,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Saliency:
    """Explain the chosen ECGs for the first seed of every trained model whose family is explained, and write to `out`.

    predictions, thresholds: by model, as those of `Evaluation`. views: by model, then site, what the model reads.
    stores: by site; waves are delineated on the recordings, filtered by `filters`, over the time that a map shows.
    sheet: the layout of the images.
    """
    from ecg_pipeline.explanation.explainer import Explainer
    from ecg_pipeline.explanation.figures import write_page

    @cache
    def windows(site: str, ecg_id: str, seconds: float) -> dict[str, NDArray[np.bool_]] | None:
        """The waves of an ECG in the first `seconds` of its recording."""
        first = replace(filters, samples=round(seconds * filters.sampling_hz))
        return recording_windows(stores[site], ecg_id, filters=first)

    families = {model: family_of(recipe_from(tuned.config()["model"])) for model, tuned in models.items()}
    explained = [model for model, family in families.items() if family.is_explained and not models[model].not_trained]
    chosen = choose({model: predictions[model] for model in explained}, recipe.ecgs)
    places = chosen.select("site", "ecg_id").rows()
    shares, errors, pages = [], [], [[] for _ in places]
    for done, model in enumerate(explained, start=1):
        seed, checkpoint = next(iter(models[model].checkpoints().items()))
        explainer = Explainer(
            model=model,
            checkpoint=checkpoint,
            view=views[model],
            sheet=Sheet(sheet, filters.seconds),
            windows=windows,
            device=device,
        )
        about = {"model": model, "initialisation": models[model].config()["initialisation"]}
        for ecg, one in enumerate(explainer.explain(places, chosen[model].to_list()), start=1):
            of_ecg = {**about, "ecg": ecg, "ecg_id": places[ecg - 1][1], "score": one.panel.score, **one.numbers}
            shares += [{**of_ecg, **row} for row in one.regions]
            pages[ecg - 1].append(one.panel)
        if of_seed := thresholds[model].get(seed):
            threshold = of_seed[OPERATING_POINT]
            wrong = choose_errors(predictions[model].filter(seed=seed), threshold, recipe.errors)
            errors += [
                {"model": model, "threshold": threshold, **row} for row in _explain_errors(explainer, wrong, out)
            ]
        progress(done, len(explained))
    for ecg, panels in enumerate(pages, start=1):
        write_page(panels, out / f"ecg_{ecg}.png", sheet=sheet)
    write_parquet(out / "shares.parquet", pl.DataFrame(shares, schema=SHARES).sort("ecg", maintain_order=True))
    write_parquet(out / "errors.parquet", pl.DataFrame(errors, schema=ERRORS))
    facts = {
        "explained": explained,
        "not_explained": [model for model in models if model not in explained],
        "without_threshold": [model for model in explained if recipe.errors and not thresholds[model]],
    }
    write_json(out / "models.json", facts)
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


def choose_errors(predictions: pl.DataFrame, threshold: float, count: int) -> pl.DataFrame:
    """Of one network, the at most `count` false positives with the highest scores, and false negatives with the lowest.

    One of each kind per patient. predictions: as `Evaluation.predictions`, of one seed. Columns: kind, place (from 1),
    ecg_id, site, score.
    """
    called = pl.col("score") >= threshold
    kinds = {
        FALSE_POSITIVE: (called & (pl.col("label") == 0), True),
        FALSE_NEGATIVE: (~called & (pl.col("label") == 1), False),
    }
    found = [
        predictions.filter(is_wrong)
        .sort("score", "ecg_id", descending=[highest_first, False])
        .unique("patient", keep="first", maintain_order=True)
        .head(count)
        .select(pl.lit(kind).alias("kind"), pl.int_range(1, pl.len() + 1).alias("place"), "ecg_id", "site", "score")
        for kind, (is_wrong, highest_first) in kinds.items()
    ]
    return pl.concat(found)


def _explain_errors(explainer: "Explainer", wrong: pl.DataFrame, out: Path) -> list[dict[str, Any]]:
    """Explain what `choose_errors` has chosen, and write a picture of each kind: its rows, with the numbers of each."""
    from ecg_pipeline.explanation.figures import write_page

    made = explainer.explain(wrong.select("site", "ecg_id").rows(), wrong["score"].to_list())
    for kind in wrong["kind"].unique(maintain_order=True):
        panels = [one.panel for one, of_kind in zip(made, wrong["kind"], strict=True) if of_kind == kind]
        write_page(panels, error_figure(out, model=explainer.model, kind=kind), sheet=explainer.sheet.recipe)
    return [{**row, **one.numbers} for row, one in zip(wrong.iter_rows(named=True), made, strict=True)]
