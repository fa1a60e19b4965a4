"""The interface of all families, and what each family says of where its weights come from."""

import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models import FAMILIES, GROUP, _installed
from ecg_pipeline.models.comparators.network import comparator, stated_licence
from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.family import RANDOM, Family
from ecg_pipeline.models.heartbeit.beit import masked_image_model
from ecg_pipeline.models.heartbeit.recipes import HeartBeitRecipe
from ecg_pipeline.models.load import build_classifier, classifier_facts, load_classifier
from ecg_pipeline.models.normalisation import normalise
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline.models.start import FROZEN, start_of, start_words
from ecg_pipeline.storage.files import write_json
from ecg_pipeline.training.checkpoints import PUBLISHED, PretrainedModel
from ecg_pipeline.training.weights import save_checkpoint

HEARTBEIT = HeartBeitRecipe(image_px=32, width=32, depth=2, heads=2)
TIMM = TimmRecipe(name="test_resnet", mean=(0.1, 0.2, 0.3), image_px=32)


@pytest.fixture
def images():
    return torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def pretrained(folder, **config):
    """A pretrained model of a tiny HeartBEiT."""
    network = masked_image_model(HEARTBEIT, vocabulary=7, seed=0)
    save_checkpoint(folder / "seed_0", state=network.official_state(), config=config)
    write_json(folder / "config.json", {**config, "checkpoints": ["seed_0"]})
    return PretrainedModel(folder)


@pytest.mark.parametrize("recipe", [HEARTBEIT, TIMM], ids=["heartbeit", "timm"])
def test_log_odds_survive_saving(recipe, images, tmp_path):
    classifier = build_classifier(recipe, None, seed=3).eval()
    with torch.no_grad():
        classifier.get_parameter(next(n for n, _ in classifier.named_parameters() if n.endswith("bias"))).add_(0.5)
    log_odds = classifier(images)
    assert log_odds.shape == (3, 1)
    checkpoint = save_checkpoint(tmp_path, state=classifier.state_dict(), config=classifier_facts(recipe, None))
    assert torch.equal(load_classifier(checkpoint)(images), log_odds)


def test_grey_is_repeated_and_normalised(images):
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 1.0, 2.0])
    made = normalise(images, mean=mean, std=std)
    assert torch.equal(made, normalise(images, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)))
    assert made.shape == (3, 3, 32, 32)
    for channel in range(3):
        expected = (images / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(made[:, channel], expected)


def test_a_comparators_images_are_normalised_as_its_recipe_says(images):
    made = build_classifier(TIMM, None, seed=0).normalise(images)
    assert torch.equal(made, normalise(images, mean=TIMM.mean, std=TIMM.std))


def test_heartbeits_images_are_normalised_to_plus_and_minus_one(images):
    made = build_classifier(HEARTBEIT, None, seed=0).normalise(images)
    torch.testing.assert_close(made[:, 0], 2 * (images / 255) - 1)


def test_a_classifier_starts_from_a_pretrained_checkpoint(tmp_path):
    start = pretrained(tmp_path).start(1)
    state, own = build_classifier(HEARTBEIT, start, seed=1).network.state_dict(), start.state()
    assert torch.equal(state["blocks.1.mlp.fc1.weight"], own["blocks.1.mlp.fc1.weight"])
    assert torch.equal(state["fc_norm.weight"], torch.ones(32))


def test_a_family_refuses_another_familys_start(tmp_path):
    start = pretrained(tmp_path).start(0)
    with pytest.raises(ValueError, match=r"missing conv1\.0\.weight.*unexpected blocks\.0\.gamma_1"):
        build_classifier(TIMM, start, seed=0)
    other = save_checkpoint(tmp_path / "timm", state=build_classifier(TIMM, None, seed=0).state_dict(), config={})
    with pytest.raises(ValueError, match=r"missing blocks\.0\.gamma_1"):
        build_classifier(HEARTBEIT, other, seed=0)
    with pytest.raises(ValueError, match="starts from random weights"):
        build_classifier(SmallCnnRecipe(), start, seed=0)


def test_a_checkpoint_of_an_unknown_family_is_refused(tmp_path):
    checkpoint = save_checkpoint(tmp_path, state={}, config={"model": {"family": "oracle"}})
    with pytest.raises(ValueError, match="no family `oracle`; there are heartbeit, timm, small_cnn"):
        load_classifier(checkpoint)


def test_a_checkpoint_that_names_a_network_elsewhere_fetches_nothing(tmp_path):
    checkpoint = save_checkpoint(
        tmp_path, state={}, config={"model": {"family": "timm", "name": "hf-hub:somebody/model"}}
    )
    with pytest.raises(ValueError, match="not downloaded"):
        load_classifier(checkpoint)


def test_where_weights_came_from_is_said(tmp_path):
    nothing = classifier_facts(HEARTBEIT, None)
    assert nothing["initialisation"] == RANDOM == "random initialisation"
    assert start_words(nothing) == {"weights": RANDOM}

    said = {"origin": "masked image modelling", "sees": "ECGs", "pretraining": {"seeds": [1, 0]}}
    here = classifier_facts(HEARTBEIT, pretrained(tmp_path / "own", **said))
    assert here["initialisation"] == "masked image modelling"
    assert start_words(here) == {"weights": "masked image modelling, seeds 1, 0", "pretraining_saw": "ECGs"}

    file = tmp_path / "resnet.safetensors"
    save_file(comparator(TIMM, None, outputs=1, seed=0).state_dict(), file)
    taken_over = FAMILIES["timm"].import_weights(file, TIMM, tmp_path / "timm" / PUBLISHED)
    about = {"checkpoints": [PUBLISHED], "sha256": "0123456789abcdef", "licence": "none stated", "sees": "ECGs, labels"}
    write_json(tmp_path / "timm" / "config.json", {**taken_over.config(), **about, "labels": ["NORMAL ECG", "ACUTE"]})
    facts = classifier_facts(TIMM, PretrainedModel(tmp_path / "timm"))
    assert facts["initialisation"] == "published weights resnet.safetensors"
    assert facts["start"]["sha256"] == "0123456789abcdef"


def test_labels_of_a_pretraining_are_those_of_its_checkpoints(tmp_path):
    start = pretrained(tmp_path, origin="supervised pretraining on statements", sees="ECGs, labels")
    for checkpoint in start.checkpoints():
        write_json(checkpoint.folder / "config.json", {**checkpoint.config(), "labels": [["scp", "NORM"], "scp:AFIB"]})
    facts = classifier_facts(HEARTBEIT, start)
    assert start_of(facts).labels == ("scp:NORM", "scp:AFIB")
    assert start_words({**facts, "finetuning": {"c": [1.0]}}) == {
        "weights": "supervised pretraining on statements",
        "pretraining_saw": "ECGs, 2 labels",
        "fitting": FROZEN,
    }


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("resnet152", "apache-2.0, if the file is timm's resnet152.a1h_in1k"),
        ("convnextv2_tiny.fcmae", "cc-by-nc-4.0, if the file is timm's convnextv2_tiny.fcmae"),
        ("resnet200", "unknown"),
    ],
)
def test_the_licence_of_timms_weights_is_as_timm_states_it(name, licence):
    assert stated_licence(name) == licence


@pytest.mark.parametrize(
    ("recipe", "shape", "says"),
    [
        (HEARTBEIT, (224, 224), "images of 32 x 32 px, but sheets have 224 x 224 px"),
        (TIMM, (64, 32), "images of 32 x 32 px, but sheets have 64 x 32 px"),
        (replace(TIMM, name="nobodys_net"), (32, 32), "timm has no model `nobodys_net`"),
        (SmallCnnRecipe(), (8, 500), "has 8 leads, not 12"),
    ],
)
def test_a_network_that_cannot_read_its_view_is_refused(recipe, shape, says):
    with pytest.raises(RecipeError, match=says):
        FAMILIES[recipe.family].check(recipe, {recipe.view: shape})


@pytest.mark.parametrize(("recipe", "shape"), [(HEARTBEIT, (32, 32)), (TIMM, (32, 32)), (SmallCnnRecipe(), (12, 500))])
def test_a_network_that_can_read_its_view_is_accepted(recipe, shape):
    FAMILIES[recipe.family].check(recipe, {recipe.view: shape})


THEIRS = """
from ecg_pipeline.models.family import Family

class Theirs(Family):
    def classifier(self, recipe, start, *, seed):
        return None

FAMILY, WORDS = Theirs(), "no family"
"""


def installed(folder, monkeypatch, *lines):
    """The families that are found beside timm's when a package with these entry points is on the path."""
    (folder / "theirs-1.0.dist-info").mkdir()
    (folder / "theirs-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (folder / "theirs-1.0.dist-info" / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
    (folder / "theirs.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    return _installed({"timm": FAMILIES["timm"]})


def test_a_family_of_another_package_is_found(tmp_path, monkeypatch):
    families = installed(tmp_path, monkeypatch, "theirs = theirs:FAMILY")
    assert isinstance(families["theirs"], Family)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["theirs = theirs:WORDS"], "the entry point theirs = theirs:WORDS in .* is a str, not a Family"),
        (["timm = theirs:FAMILY"], "the entry point timm = theirs:FAMILY in .*: another family has this name"),
    ],
)
def test_an_entry_point_that_is_no_family_or_takes_a_name_is_refused(lines, says, tmp_path, monkeypatch):
    with pytest.raises(TypeError, match=says):
        installed(tmp_path, monkeypatch, *lines)
