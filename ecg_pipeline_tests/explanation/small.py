"""A small site with models that were not trained, and its saliency."""

from types import SimpleNamespace

import polars as pl

from ecg_pipeline.explanation.saliency import explain
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.heartbeit.recipes import HeartBeitRecipe
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline.reporting.environment import environment
from ecg_pipeline.reporting.outline import HEADINGS
from ecg_pipeline.reporting.saliency import saliency_section
from ecg_pipeline.signals.filters import FilterRecipe
from ecg_pipeline.signals.windows import WindowRecipe

MODELS = {
    "beit": HeartBeitRecipe(width=32, depth=1, heads=2),
    "resnet": TimmRecipe(name="test_resnet"),
    "cnn": SmallCnnRecipe(widths=(8, 16)),
}
CUT = WindowRecipe(sampling_hz=250, seconds=8.0, short="pad")
"""Longer than the 5 s of a sheet, and at another rate; several recordings end earlier."""


def predictions(scores, labels=None, patients=None):
    n = len(scores)
    return pl.DataFrame(
        {
            "ecg_id": [f"r{number}" for number in range(n)],
            "site": ["here"] * n,
            "patient": patients or [f"p{number}" for number in range(n)],
            "label": labels or [1] * n,
            "seed": [0] * n,
            "score": scores,
        }
    )


def explained_by(models, recipe, *, by_model, site, out, thresholds=None, progress=lambda done, total: None):
    store, views = site
    return explain(
        models,
        recipe,
        predictions=by_model,
        thresholds=thresholds or {model: {} for model in models},
        views=views,
        stores={"here": store},
        sheet=SheetRecipe(),
        filters=FilterRecipe(),
        out=out,
        progress=progress,
    )


def section_html(made, *, with_pictures=True):
    """The section of a page, as `page.html.j2` includes it."""
    page = '{% import "macros.html.j2" as macros %}{% include "saliency.html.j2" %}'
    starts = {model: ["random initialisation"] for model in made.explained()}
    task = SimpleNamespace(name="stroke", saliency=saliency_section(made, with_pictures=with_pictures), starts=starts)
    return environment().from_string(page).render(task=task, headings=HEADINGS)
