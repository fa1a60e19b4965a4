"""One model's explanation of some ECGs: maps, what is measured of them, and panels for pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.explanation.attribution import Attribution, full_gradient
from ecg_pipeline.explanation.figures import Explained
from ecg_pipeline.explanation.results import LEAD, SHEET, WINDOW
from ecg_pipeline.explanation.second_views import SECOND_VIEWS
from ecg_pipeline.explanation.surfaces import Sheet, Surface, Traces, share, sheet_masks, window_masks
from ecg_pipeline.models.family import IMAGES
from ecg_pipeline.models.load import family_of, load_classifier, recipe_from
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.checkpoints import Checkpoint

AT_ONCE = 8
"""Number of examples that go through a network together."""

Windows = Callable[[str, str, float], dict[str, NDArray[np.bool_]] | None]
"""The waves of an ECG: its site, its ecg_id, and how many of its first seconds -> masks by window."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model's map of one ECG is like, and its panel.

    numbers: margin, elsewhere and error. regions: kind, region and shares of each region of the map.
    """

    panel: Explained
    numbers: dict[str, float]
    regions: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """Explains ECGs by FullGrad, and by the second view of the model's family.

    An ECG that is several examples to a model, such as segments of its time, has their maps one after the other, each
    over their number: its margin is the mean of theirs.

    view: by site, what the model reads. sheet: what images show. windows: delineates an ECG.
    """

    model: str
    checkpoint: Checkpoint
    view: Mapping[str, ArrayShards]
    sheet: Sheet
    windows: Windows
    device: str

    def explain(self, places: Sequence[tuple[str, str]], scores: Sequence[float]) -> list[Explanation]:
        """Explain ECGs. places: site and ecg_id of each. scores: of each, to be shown."""
        if not places:
            return []
        recipe = recipe_from(self.checkpoint.config()["model"])
        name, is_image = family_of(recipe).second_view, recipe.view == IMAGES
        second = None if name is None else SECOND_VIEWS[name]
        classifier = load_classifier(self.checkpoint).to(self.device)
        examples = self._read(places)
        together = np.concatenate(examples)
        chunks = np.split(together, range(AT_ONCE, len(together), AT_ONCE))
        found = [full_gradient(classifier, chunk) for chunk in chunks]
        attributions = _by_ecg(found, examples)
        seconds = [second.compute(classifier, chunk) for chunk in chunks] if second else []
        views = _split(np.concatenate(seconds), examples) if seconds and seconds[0] is not None else None  # type: ignore[arg-type]
        made = []
        for number, ((site, ecg_id), score) in enumerate(zip(places, scores, strict=True)):
            example, attribution = _joined(examples[number]), attributions[number]
            fullgrad = _joined(attribution.maps) / len(examples[number])
            surface = self.sheet if is_image else self._traces(site, example)
            windows = self.windows(site, ecg_id, surface.seconds)
            regions = self._regions(fullgrad, example, surface=surface, windows=windows)
            shown = None
            if second is not None and views is not None:
                values = _joined(views[number])
                shown = second.strength(values, surface), second.title(values)
            panel = Explained(
                self.model,
                score,
                surface,
                example,
                fullgrad,
                shown,
                covers={name: surface.column_cover(window) for name, window in (windows or {}).items()},
                lead_shares={row["region"]: row["share"] for row in regions if row["kind"] == LEAD},
            )
            numbers = {name: float(getattr(attribution, name).mean()) for name in ("margin", "elsewhere", "error")}
            made.append(Explanation(panel, numbers, regions))
        return made

    def _read(self, places: Sequence[tuple[str, str]]) -> list[NDArray]:
        """The examples (n, ...) of each ECG; each shard is read once."""
        found: dict[tuple[str, str], NDArray] = {}
        for site in dict.fromkeys(site for site, _ in places):
            ecg_ids = [ecg_id for where, ecg_id in places if where == site]
            read = self.view[site].read_examples(ecg_ids)
            found |= {(site, ecg_id): examples for ecg_id, examples in zip(ecg_ids, read, strict=True)}
        return [found[place] for place in places]

    def _traces(self, site: str, example: NDArray) -> Traces:
        """What a map of waveforms (L, T) lies on."""
        attributes = self.view[site].attributes()
        return Traces(tuple(attributes["leads"]), samples=example.shape[-1], sampling_hz=attributes["sampling_hz"])

    def _regions(
        self,
        fullgrad: NDArray[np.float64],
        example: NDArray,
        *,
        surface: Surface,
        windows: Mapping[str, NDArray[np.bool_]] | None,
    ) -> list[dict[str, Any]]:
        """kind, region and shares of each region of a map, of leads first."""
        magnitude, ink = np.abs(fullgrad), surface.ink(example)
        masks = {
            LEAD: surface.lead_masks(),
            WINDOW: window_masks(windows, surface),
            SHEET: sheet_masks(surface, self.sheet),
        }
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


def _joined(examples: NDArray) -> NDArray:
    """(n, ..., T) -> (..., n T): one after the other in time. An image is one example."""
    return np.concatenate(list(examples), axis=-1)


def _split(values: NDArray, examples: Sequence[NDArray]) -> list[NDArray]:
    """Values of all examples, in order -> those of each ECG."""
    return np.split(values, np.cumsum([len(some) for some in examples])[:-1])


def _by_ecg(found: Sequence[Attribution], examples: Sequence[NDArray]) -> list[Attribution]:
    """The attributions of each ECG's examples."""
    fields = (np.concatenate([getattr(one, name) for one in found]) for name in ("maps", "elsewhere", "margin"))
    return [Attribution(*parts) for parts in zip(*(_split(values, examples) for values in fields), strict=True)]
