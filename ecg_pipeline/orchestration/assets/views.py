"""The views of a study as assets: their keys, and an example of each."""

import dagster as dg
from numpy.typing import NDArray

from ecg_pipeline.models.family import IMAGES, windows
from ecg_pipeline.study import Study


def view_key(view: str) -> dg.AssetKey:
    """Asset key of a view or target, by its name."""
    return dg.AssetKey(view.split("/"))


def input_name(view: str) -> str:
    """Name of a view or target as an asset's input."""
    return view.replace("/", "__")


def example_of(study: Study, view: str) -> NDArray:
    """A synthetic example of a view, (1, ...), for places that must not show a patient's ECG. Always the same."""
    if view == IMAGES:
        from ecg_pipeline.images.example import example_images

        return example_images(study.sheet, study.filters)
    from ecg_pipeline.signals.example import example_window

    return example_window({windows(name): recipe for name, recipe in study.windows.items()}[view])
