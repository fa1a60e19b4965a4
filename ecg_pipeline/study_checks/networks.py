"""From recordings to networks: each stage must give what the next one takes."""

from collections.abc import Iterator

from ecg_pipeline.images.natural import SIDE_PX
from ecg_pipeline.models.recipes import BeitRecipe, TimmRecipe
from ecg_pipeline.models.timm_names import is_timm_model
from ecg_pipeline.study_checks.problem import Problem, problem
from ecg_pipeline.study_sections import Study
from ecg_pipeline.tokens.recipes import GRID
from ecg_pipeline.training.masking import sample_masks
from ecg_pipeline.training.recipes import MaskRecipe

MASKS = 32
"""Masks that are drawn to see whether anything is ever hidden."""


def waveforms(study: Study) -> Iterator[Problem]:
    """Recordings that are used must be as long as what is filtered."""
    if study.filters.seconds > study.ingest.minimum_seconds:
        yield problem(
            f"{study.filters.samples} samples at {study.filters.sampling_hz} Hz are {study.filters.seconds:g} s, but "
            f"recordings from {study.ingest.minimum_seconds:g} s on are used: raise ingest.minimum_seconds, or filter "
            "fewer samples",
            "filters.samples",
            "ingest.minimum_seconds",
            "filters.sampling_hz",
        )


def images(study: Study) -> Iterator[Problem]:
    """What a sheet measures, and what looks at sheets."""
    sheet = study.sheet
    for key in ("height_px", "width_px"):
        if getattr(sheet, key) != SIDE_PX:
            yield problem(
                f"a sheet of {sheet.height_px} x {sheet.width_px} px cannot be compared with natural images, which "
                f"are {SIDE_PX} x {SIDE_PX} px: set it to {SIDE_PX}",
                f"sheet.{key}",
            )
    for name, model in study.models.items():
        if not model.image_px == sheet.height_px == sheet.width_px:
            yield problem(
                f"the model takes images of {model.image_px} x {model.image_px} px, but sheets have "
                f"{sheet.height_px} x {sheet.width_px} px: make them equal",
                f"models.{name}.image_px",
                "sheet.height_px",
                "sheet.width_px",
            )


def models(study: Study) -> Iterator[Problem]:
    """Models that timm must know."""
    for name, model in study.models.items():
        if isinstance(model, TimmRecipe) and not is_timm_model(model.name):
            sentence = f"timm has no model `{model.name}`; `timm.list_models()` says which there are"
            yield problem(sentence, f"models.{name}.name")


def pretraining(study: Study) -> Iterator[Problem]:
    """Which model is pretrained, on which tokens, behind which masks."""
    model = study.models.get(study.pretraining.model)
    if not isinstance(model, BeitRecipe):
        yield problem(f"`{study.pretraining.model}` is not a model of family `beit`", "pretraining.model")
    elif study.pretraining.weights is None:
        place = f"models.{study.pretraining.model}"
        if model.grid != GRID:
            yield problem(
                f"patches of {model.patch_px} px cut {model.image_px} px into {model.grid} x {model.grid}, but a sheet "
                f"has {GRID} x {GRID} tokens: choose patch_px = image_px / {GRID}",
                f"{place}.patch_px",
                f"{place}.image_px",
            )
        yield from _masks(study.pretraining.recipe.mask)


def _masks(mask: MaskRecipe) -> Iterator[Problem]:
    """Whether masks hide something of the grid of patches, and not all of it."""
    place = "pretraining.recipe.mask"
    if mask.patches >= GRID**2:
        yield problem(
            f"{mask.patches} of {GRID**2} patches hidden leave nothing to see: hide fewer", f"{place}.patches", place
        )
    elif not sample_masks(mask, range(MASKS), seed=0, step=0, rows=GRID, columns=GRID).any():
        yield problem(
            f"no block of {mask.smallest_block} to {mask.largest_block or mask.patches} patches with sides of "
            f"{mask.aspect:g} or more to 1 fits into {GRID} x {GRID}, so nothing would be hidden: "
            "allow smaller or longer ones",
            f"{place}.smallest_block",
            f"{place}.aspect",
            f"{place}.largest_block",
            f"{place}.patches",
        )
