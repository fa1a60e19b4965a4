"""Checks that the output of each stage fits the next one, from recordings to networks."""

from collections.abc import Callable, Iterator, Mapping

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.images.natural import SIDE_PX
from ecg_pipeline.models.family import IMAGES, windows
from ecg_pipeline.study_checks.problem import Problem, problem
from ecg_pipeline.study_sections import Study
from ecg_pipeline.study_sections.models import Arm


def waveforms(study: Study) -> Iterator[Problem]:
    """Check that recordings are at least as long as what is rendered of them."""
    if study.has_images and study.filters.seconds > study.ingest.minimum_seconds:
        yield problem(
            f"{study.filters.samples} samples at {study.filters.sampling_hz} Hz are {study.filters.seconds:g} s, but "
            f"recordings of {study.ingest.minimum_seconds:g} s are accepted: raise ingest.minimum_seconds, or filter "
            "fewer samples",
            "filters.samples",
            "ingest.minimum_seconds",
            "filters.sampling_hz",
        )


def images(study: Study) -> Iterator[Problem]:
    """Check that images have the size of natural images."""
    sheet = study.sheet
    for key in _misfits(study):
        yield problem(
            f"a sheet of {sheet.height_px} x {sheet.width_px} px cannot be compared with natural images, which "
            f"are {SIDE_PX} x {SIDE_PX} px: set it to {SIDE_PX}",
            f"sheet.{key}",
        )


def arms(study: Study) -> Iterator[Problem]:
    """Check that an arm is like a model with a network of its own, and that something distinguishes it from that model
    and from its other arms."""
    first: dict[tuple, str] = {}
    networks = [name for name, _ in _own_networks(study)]
    for name in (*networks, *(name for name in study.models if name not in networks)):
        arm, target = study.models[name], name
        if isinstance(arm, Arm):
            target = arm.like
            if target not in networks:
                sentence = f"`{target}` is no model with a network of its own; those are {', '.join(networks)}"
                yield problem(sentence, f"models.{name}.like", f"models.{target}")
                continue
        same = first.setdefault((target, study.starts_from(name), study.tuning(name)), name)
        if same != name:
            changes = ["change `pretrained`"] if target in study.pretraining else []
            changes.append("remove it" if study.probe_of(name) else "give it a fine-tuning of its own")
            yield problem(
                f"the model is the same as `{same}`: {', or '.join(changes)}",
                f"models.{name}.pretrained",
                f"models.{name}",
            )


def models(study: Study) -> Iterator[Problem]:
    """Check that the view of each model exists, and that its network can read it."""
    for name, recipe in _own_networks(study):
        if recipe.view not in (views := _views(study)):
            yield problem(
                f"the study has no view `{recipe.view}`, which `{name}` reads; its views are {', '.join(views)}",
                f"models.{name}.window",
                f"models.{name}",
                "windows",
            )
        else:
            yield from _network(study, name)


def pretraining(study: Study) -> Iterator[Problem]:
    """Check each pretraining against its model's network, and its seeds against those of fine-tuning."""
    for name in study.trained_here:
        section, place = study.pretraining[name], f"pretraining.{name}"
        if unknown := [target for target in study.family(name).targets if target not in study.shapes]:
            yield problem(
                f"its family predicts {', '.join(unknown)}, for which there is no asset: give `weights`", place
            )
        elif _is_sound(study, name):
            yield from _problems(
                lambda name=name, section=section: study.family(name).check_pretraining(
                    study.recipes[name], section.recipe, study.shapes
                ),
                {"model.": f"models.{name}.", "": f"{place}.recipe."},
                place,
            )
        assert section.recipe is not None  # trained here
        seeds, wanted = section.recipe.seeds, study.finetuning.recipe.seeds
        if len(seeds) > 1 and (missing := [seed for seed in wanted if seed not in seeds]):
            yield problem(
                f"fine-tuning has the seeds {', '.join(map(str, wanted))}, but no network is pretrained with "
                f"{', '.join(map(str, missing))}: pretrain with the same seeds, or with one",
                f"{place}.recipe.seeds",
                "finetuning.seeds",
            )


def finetuning(study: Study) -> Iterator[Problem]:
    """Check that models with a fine-tuning of their own exist and are fine-tuned."""
    for name, changes in study.finetuning.models.items():
        if name not in study.models:
            sentence = f"there is no model `{name}` to fine-tune; the models are {', '.join(study.models)}"
            yield problem(sentence, f"finetuning.models.{name}", f"models.{name}")
        elif study.probe_of(name):
            for key in (key for key, value in changes if value is not None):
                yield problem(
                    f"`{name}` is frozen: a logistic regression on its features is fitted, which has no {key}; "
                    f"remove it (`{key}: null` removes an inherited one)",
                    f"finetuning.models.{name}.{key}",
                    f"models.{name}.frozen",
                )


def _views(study: Study) -> list[str]:
    """The views that models can read."""
    return [IMAGES, *(windows(name) for name in study.windows)]


def _is_sound(study: Study, name: str) -> bool:
    """Whether `images` and `models` find nothing wrong with what a model reads."""
    view = study.recipes[name].view
    return view in _views(study) and not (view == IMAGES and _misfits(study)) and not any(_network(study, name))


def _misfits(study: Study) -> list[str]:
    """The sides of a study's images that are not those of natural images."""
    sides = ("height_px", "width_px") if study.has_images else ()
    return [key for key in sides if getattr(study.sheet, key) != SIDE_PX]


def _network(study: Study, name: str) -> Iterator[Problem]:
    """Check that a model's network can read its view, which exists. Sheets of a wrong size are another check's."""
    recipe = study.recipes[name]
    if recipe.view == IMAGES and _misfits(study):
        return
    section = "sheet" if recipe.view == IMAGES else recipe.view.replace("waveform_windows/", "windows.")
    yield from _problems(
        lambda: study.family(name).check(recipe, study.shapes), {"": f"models.{name}."}, f"models.{name}", section
    )
    yield from _lead_order(study, name)


def _lead_order(study: Study, name: str) -> Iterator[Problem]:
    """Check that a window has its leads in the order that weights of the model's family are for."""
    wanted, view = study.family(name).leads, study.recipes[name].view
    for window, recipe in study.windows.items():
        if windows(window) == view and len(recipe.leads) == len(wanted) and recipe.leads != wanted:
            yield problem(
                f"`{name}` takes the leads for {', '.join(wanted)}, but those of `{window}` are "
                f"{', '.join(recipe.leads)}: give them in that order",
                f"windows.{window}.leads",
                f"models.{name}.window",
            )


def _own_networks(study: Study) -> Iterator[tuple]:
    """Name and recipe of each model that is not an arm."""
    yield from ((name, one) for name, one in study.models.items() if not isinstance(one, Arm))


def _problems(check: Callable[[], None], places: Mapping[str, str], *fallbacks: str) -> Iterator[Problem]:
    """The RecipeError of a check as a problem. places: where keys with a prefix belong; the first that fits is used."""
    try:
        check()
    except RecipeError as error:
        keys = []
        for key in error.keys:
            prefix = next(prefix for prefix in places if key.startswith(prefix))
            keys.append(places[prefix] + key.removeprefix(prefix))
        yield problem(str(error), *keys, *fallbacks)
