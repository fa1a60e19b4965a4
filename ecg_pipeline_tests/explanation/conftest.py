"""Images, a network of each family of images, and a small site with models."""

import json

import numpy as np
import pytest

from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.shards import render_site
from ecg_pipeline.models.load import build_classifier, classifier_facts
from ecg_pipeline.signals.filters import FilterRecipe, filter_site
from ecg_pipeline.signals.windows import cut_site
from ecg_pipeline.training.checkpoints import FinetunedModel, seed_folder
from ecg_pipeline.training.weights import save_checkpoint
from ecg_pipeline_tests.explanation.networks import RECIPES, perturb
from ecg_pipeline_tests.explanation.small import CUT, MODELS
from ecg_pipeline_tests.explanation.stores import beats, store_of


@pytest.fixture(scope="session")
def images():
    rng = np.random.default_rng(0)
    images = np.full((2, 224, 224), 255, np.uint8)
    images[:, 30:200:20] = rng.integers(0, 255, (2, 9, 224))
    return images


@pytest.fixture(scope="module", params=RECIPES)
def classifier(request):
    """A network in which every weight, bias and running mean is other than at the start."""
    return perturb(build_classifier(RECIPES[request.param], None, seed=0))


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A store of four recordings, the last without a beat, and its views by model."""
    folder = tmp_path_factory.mktemp("site")
    recordings = {f"r{number}": beats(seconds, seed=number) for number, seconds in enumerate((10, 10, 5))}
    store = store_of(folder / "store", {**recordings, "r3": np.zeros((8, 5000))})
    images = render_site(filter_site(store, FilterRecipe(), folder / "waves"), SheetRecipe(), folder / "images")
    windows = cut_site(store, CUT, folder / "windows")
    of_models = {"beit": images, "resnet": images, "cnn": windows}
    return store, {model: {"here": view} for model, view in of_models.items()}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    made = {}
    for name, recipe in MODELS.items():
        folder, facts = tmp_path_factory.mktemp(name), classifier_facts(recipe, None)
        (folder / "config.json").write_text(json.dumps({**facts, "finetuning": {"seeds": [0, 1]}}))
        save_checkpoint(seed_folder(folder, 0), state=build_classifier(recipe, None, seed=0).state_dict(), config=facts)
        made[name] = FinetunedModel(folder)
    return made
