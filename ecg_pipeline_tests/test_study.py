"""A study file: every built-in one is sound, a wrong one gets one clear error, places are not identity."""

import pytest
import yaml

from ecg_pipeline.study import (
    StudyError,
    active_study,
    built_in_studies,
    drop_folder,
    identity,
    load_study,
    study_file,
    study_home,
)


def changed(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", built_in_studies())
def test_built_in_studies_are_sound(name):
    assert load_study(study_file(name)).name == name


def test_the_demo_is_the_default(monkeypatch):
    monkeypatch.delenv("ECG_STUDY", raising=False)
    assert active_study().name == "demo"


def test_the_papers_design_is_stated_in_full():
    study = load_study(study_file("heartbeit"))
    hospitals = [name for name, site in study.sites.items() if site.role != "transfer"]
    assert len(hospitals) == 5
    assert study.tasks["low_lvef"].external == study.tasks["hcm"].external == ("morningside",)
    assert study.sites["morningside"].site_names == ("ST.LUKE'S-ROOSEVELT HOSPITAL (S)",)
    assert study.fractions == (0.01, 0.1, 0.25, 0.5, 1.0)
    assert set(study.models) == {"heartbeit", "vit_b16", "efficientnet_b4", "resnet_152"}
    assert (study.models["heartbeit"].width, study.models["heartbeit"].depth) == (768, 12)
    assert study.pretraining.recipe.epochs == 300


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("extends: demo\nfilterz: {}\n", "study.yaml:2: filterz: no such key"),
        ("extends: demo\n\nfilters:\n  low_hz: 0.5\n  high_khz: 4\n", "study.yaml:5: filters.high_khz: no such key"),
        ("extends: demo\nfilters:\n  low_hz: often\n", "study.yaml:3: filters.low_hz:"),
        ("extends: demo\nfilters: {low_hz: 60.0}\n", "study.yaml:2: filters.low_hz: band-pass"),
        ("extends: demo\ntasks:\n  hcm:\n    sites: [atlantis]\n", "there is no site `atlantis`"),
        ("extends: demo\nfractions: [0.5, 2]\n", "study.yaml:2: fractions.1:"),
        ("extends: nowhere\n", "nowhere: no such file or built-in study"),
        ("extends: study.yaml\n", "this file extends itself"),
        ("just words", "a study file must be a mapping"),
        ("a: [1", "not valid YAML"),
    ],
)
def test_a_wrong_file_gets_one_clear_error(tmp_path, text, says):
    with pytest.raises(StudyError) as error:
        load_study(changed(tmp_path, text))
    assert says in str(error.value)


def test_an_external_site_is_not_pretrained_on(tmp_path):
    with pytest.raises(StudyError, match="an external site must not be used for pretraining"):
        load_study(changed(tmp_path, "extends: heartbeit\nsites: {morningside: {pretraining: true}}\n"))


def test_a_checkpoint_file_stands_in_place_of_pretraining(tmp_path):
    text = "extends: heartbeit\npretraining: {weights: checkpoint-299.pth, recipe: null}\n"
    study = load_study(changed(tmp_path, text))
    assert (study.pretraining.model, study.pretraining.weights) == ("heartbeit", "checkpoint-299.pth")
    with pytest.raises(StudyError, match=r"study.yaml:2: pretraining.weights: .*`recipe: null`"):
        load_study(changed(tmp_path, "extends: heartbeit\npretraining: {weights: checkpoint-299.pth}\n"))
    with pytest.raises(StudyError, match="without a folder"):
        load_study(changed(tmp_path, text.replace("checkpoint-299", "../elsewhere")))


def test_extending_changes_what_it_names_and_nothing_else(tmp_path):
    base = load_study(study_file("heartbeit"))
    study = load_study(changed(tmp_path, "extends: heartbeit\nfilters: {high_hz: 35.0}\n"))
    assert study.filters.high_hz == 35.0
    assert study.filters.low_hz == base.filters.low_hz
    assert study.model_dump(exclude={"filters"}) == base.model_dump(exclude={"filters"})


def test_places_are_execution_and_numbers_are_identity(tmp_path):
    base = load_study(study_file("heartbeit"))
    moved = load_study(changed(tmp_path, "extends: heartbeit\nsites: {ptb_xl: {path: /elsewhere}}\n"))
    retuned = load_study(changed(tmp_path, "extends: heartbeit\nfilters: {high_hz: 35.0}\n"))
    assert moved.fingerprint() == base.fingerprint() != retuned.fingerprint()
    assert "path" not in identity(base.sites["ptb_xl"])


def test_paths_name_environment_variables(tmp_path, monkeypatch):
    study = load_study(study_file("heartbeit"))
    monkeypatch.setenv("ECG_DATA", str(tmp_path))
    assert drop_folder(study, "ptb_xl").path == tmp_path / "ptb_xl"
    monkeypatch.delenv("ECG_DATA")
    with pytest.raises(StudyError, match=r"sites\.ptb_xl\.path.*not set"):
        drop_folder(study, "ptb_xl")


def test_everything_is_written_below_one_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_HOME", str(tmp_path))
    assert study_home(load_study(study_file("demo"))) == tmp_path / "demo"


def test_every_study_file_names_only_known_keys():
    for name in built_in_studies():
        assert isinstance(yaml.safe_load(study_file(name).read_text()), dict)
