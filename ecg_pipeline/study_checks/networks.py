"""Checks that the output of each stage fits the next one, from recordings to networks."""

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
"""Number of masks sampled to check that patches get masked."""


def waveforms(study: Study) -> Iterator[Problem]:
    """Check that recordings are at least as long as the filtered waveforms."""
    if study.filters.seconds > study.ingest.minimum_seconds:
        yield problem(
            f"{study.filters.samples} samples at {study.filters.sampling_hz} Hz are {study.filters.seconds:g} s, but "
            f"recordings of {study.ingest.minimum_seconds:g} s are accepted: raise ingest.minimum_seconds, or filter "
            "fewer samples",
            "filters.samples",
            "ingest.minimum_seconds",
            "filters.sampling_hz",
        )


def images(study: Study) -> Iterator[Problem]:
    """Check that images have the size of natural images and of each model's input."""
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
    """Check that timm has each model of family `timm`."""
    for name, model in study.models.items():
        if isinstance(model, TimmRecipe) and not is_timm_model(model.name):
            sentence = f"timm has no model `{model.name}`; `timm.list_models()` lists them"
            yield problem(sentence, f"models.{name}.name")


def pretraining(study: Study) -> Iterator[Problem]:
    """Check the pretrained model's family and grid of patches, and the masks."""
    model = study.models.get(study.pretraining.model)
    if not isinstance(model, BeitRecipe):
        yield problem(f"`{study.pretraining.model}` is not a model of family `beit`", "pretraining.model")
    elif study.pretraining.weights is None:
        place = f"models.{study.pretraining.model}"
        if model.grid != GRID:
            yield problem(
                f"patches of {model.patch_px} px divide {model.image_px} px into {model.grid} x {model.grid}, but an "
                f"image has {GRID} x {GRID} tokens: choose patch_px = image_px / {GRID}",
                f"{place}.patch_px",
                f"{place}.image_px",
            )
        yield from _masks(study.pretraining.recipe.mask)


def _masks(mask: MaskRecipe) -> Iterator[Problem]:
    """Check that masks cover some of the patches, but not all."""
    place = "pretraining.recipe.mask"
    if mask.patches >= GRID**2:
        yield problem(
            f"{mask.patches} of {GRID**2} masked patches leave none visible: mask fewer", f"{place}.patches", place
        )
    elif not sample_masks(mask, range(MASKS), seed=0, step=0, rows=GRID, columns=GRID).any():
        yield problem(
            f"no block of {mask.smallest_block} to {mask.largest_block or mask.patches} patches with sides of "
            f"{mask.aspect:g} or more to 1 fits into {GRID} x {GRID}, so nothing would be masked: "
            "allow smaller or longer blocks",
            f"{place}.smallest_block",
            f"{place}.aspect",
            f"{place}.largest_block",
            f"{place}.patches",
        )
