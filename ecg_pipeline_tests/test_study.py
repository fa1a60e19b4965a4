"""A study file: every built-in one is sound, a wrong one gets one clear error, places are not identity."""

from dataclasses import replace

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
from ecg_pipeline.study_checks import problems


def changed(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", built_in_studies())
def test_built_in_studies_are_sound(name):
    study = load_study(study_file(name))
    assert study.name == name
    assert problems(study) == []


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
    assert set(study.models) - {"small_cnn"} == {"heartbeit", "vit_b16", "efficientnet_b4", "resnet_152"}
    assert (study.models["heartbeit"].width, study.models["heartbeit"].depth) == (768, 12)
    assert study.pretraining["heartbeit"].recipe.epochs == 300
    assert study.trained_here == ["heartbeit"]
    assert {model for model in study.models if study.starts_from(model) is None} == {"small_cnn"}
    assert study.finetuning.of("vit_b16") == study.finetuning.of("heartbeit") == study.finetuning.recipe
    assert (study.finetuning.recipe.epochs, study.finetuning.recipe.max_learning_rate) == (20, 1e-3)


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
    text = "extends: heartbeit\npretraining: {heartbeit: {weights: checkpoint-299.pth, recipe: null}}\n"
    study = load_study(changed(tmp_path, text))
    section = study.pretraining["heartbeit"]
    assert (section.recipe, section.weights) == (None, "checkpoint-299.pth")
    assert study.trained_here == []
    assert not study.fitted
    assert study.starts_from("heartbeit") == "heartbeit"
    with pytest.raises(StudyError, match=r"study.yaml:2: pretraining.heartbeit.weights: .*`recipe: null`"):
        load_study(changed(tmp_path, "extends: heartbeit\npretraining: {heartbeit: {weights: checkpoint-299.pth}}\n"))
    with pytest.raises(StudyError, match="without a folder"):
        load_study(changed(tmp_path, text.replace("checkpoint-299", "../elsewhere")))


def test_extending_changes_what_it_names_and_nothing_else(tmp_path):
    base = load_study(study_file("heartbeit"))
    study = load_study(changed(tmp_path, "extends: heartbeit\nfilters: {high_hz: 35.0}\n"))
    assert study.filters.high_hz == 35.0
    assert study.filters.low_hz == base.filters.low_hz
    assert study.model_dump(exclude={"filters"}) == base.model_dump(exclude={"filters"})


def test_a_null_removes_what_is_inherited(tmp_path):
    text = """\
extends: demo
models: {heartbeit: null, ecg_fm: null, ecgfounder: null, d_beta: null}
pretraining: null
tasks: {low_lvef: {prompts: null}, hcm: {models: [small_cnn]}, stemi: {models: null}}
finetuning: {models: {small_cnn: {epochs: null}, ecg_fm: null, ecgfounder: null, d_beta: null}}
"""
    base, study = load_study(study_file("demo")), load_study(changed(tmp_path, text))
    assert list(study.models) == ["small_cnn"]
    assert study.pretraining == {}
    assert study.finetuning.of("small_cnn").epochs == study.finetuning.recipe.epochs == 5
    assert study.finetuning.of("small_cnn").max_learning_rate == base.finetuning.of("small_cnn").max_learning_rate


def test_a_study_has_the_assets_that_its_models_read_and_are_pretrained_with(tmp_path):
    study = load_study(study_file("demo"))
    windows = [f"waveform_windows/{name}" for name in ("ten_seconds", "segments", "filtered_window", "millivolts")]
    assert study.views == ["image_shards", *windows]
    assert study.shapes["waveform_windows/ten_seconds"] == (12, 1000)
    assert study.targets == {"patch_tokens", "statement_targets", "text_tokens"}
    assert study.fitted == {"image_tokenizer", "statement_codes", "text_tokenizer", "text_negatives"}
    pretraining = "pretraining: {heartbeit: null, ecgfounder: null, d_beta: null}"
    tasks = "tasks: {low_lvef: {prompts: null}, hcm: {models: null}, stemi: {models: null}}"
    text = f"extends: demo\nmodels: {{heartbeit: null}}\n{pretraining}\n{tasks}\n"
    waveforms = load_study(changed(tmp_path, text))
    assert not waveforms.has_images
    assert waveforms.views == windows
    assert (waveforms.targets, waveforms.fitted, waveforms.trained_here) == (set(), set(), ["ecg_fm"])


def test_the_answers_of_tasks_whose_models_read_no_statements_may_be_labels(tmp_path):
    text = """\
extends: demo
models: {probe: {like: ecgfounder, frozen: true}, scratch: {like: ecgfounder, pretrained: false}}
tasks:
  axis:
    title: Left axis deviation
    sites: [mount_sinai]
    rule: {kind: statement, system: muse, positive: [LEFT AXIS DEVIATION]}
    models: [MODEL]
"""
    path = tmp_path / "study.yaml"
    for model, expected in (("ecg_fm", False), ("ecgfounder", True), ("probe", True), ("scratch", False)):
        path.write_text(text.replace("MODEL", model))
        study = load_study(path)
        assert ("axis" in study.tasks_pretrained_on("statement_targets")) == expected
        assert "low_lvef" in study.tasks_pretrained_on("statement_targets")


def test_an_arm_has_the_network_of_another_model_and_starts_from_its_weights_or_from_none(tmp_path):
    text = """\
extends: demo
models:
  long: {like: heartbeit}
  scratch: {like: heartbeit, pretrained: false}
  slow: {like: small_cnn}
finetuning:
  models: {long: {epochs: 9}, slow: {max_learning_rate: 1.0e-4}}
"""
    study = load_study(changed(tmp_path, text))
    starts = {model: study.starts_from(model) for model in ("heartbeit", "long", "scratch", "small_cnn", "slow")}
    assert starts == {"heartbeit": "heartbeit", "long": "heartbeit", "scratch": None, "small_cnn": None, "slow": None}
    assert study.recipes["long"] is study.recipes["scratch"] is study.recipes["heartbeit"]
    assert study.family("slow") is study.family("small_cnn")
    assert list(study.pretraining) == ["heartbeit", "ecg_fm", "ecgfounder", "d_beta"]


def test_a_model_changes_only_the_keys_of_fine_tuning_that_it_names(tmp_path):
    text = (
        "extends: demo\nfinetuning: {epochs: 7, seeds: [1, 2], models: {small_cnn: {layer_decay: 0.5, epochs: null}}}\n"
    )
    study = load_study(changed(tmp_path, text))
    common, own = study.finetuning.of("heartbeit"), study.finetuning.of("small_cnn")
    assert common == study.finetuning.recipe
    assert own == replace(common, layer_decay=0.5, max_learning_rate=3e-3, time_shift=0.02)
    assert (own.epochs, own.seeds) == (7, (1, 2))


def test_a_task_names_its_models_or_has_all(tmp_path):
    study = load_study(changed(tmp_path, "extends: demo\ntasks: {hcm: {models: [small_cnn]}}\n"))
    assert study.models_of("hcm") == ["small_cnn"]
    assert study.models_of("stemi") == ["heartbeit", "small_cnn"]


@pytest.mark.parametrize(
    "change",
    [
        "windows: {ten_seconds: {standardise: recording}}",
        "windows: {ten_seconds: {filter: {kind: band_pass, low_hz: 0.5, high_hz: 40.0}}}",
        "windows: {ten_seconds: {crop: 2}}",
        "models: {scratch: {like: heartbeit, pretrained: false}}",
        "finetuning: {models: {small_cnn: {epochs: 11}}}",
        "pretraining: {heartbeit: {recipe: {seeds: [7]}}}",
        "pretraining: {heartbeit: {recipe: {mask: {aspect: 0.5}}}}",
        "tasks: {hcm: {models: [small_cnn]}}",
    ],
)
def test_what_changes_results_changes_the_fingerprint(tmp_path, change):
    base = load_study(study_file("demo"))
    same, other = (load_study(changed(tmp_path, f"extends: demo\n{line}\n")) for line in ("", change))
    assert same.fingerprint() == base.fingerprint() != other.fingerprint()


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
