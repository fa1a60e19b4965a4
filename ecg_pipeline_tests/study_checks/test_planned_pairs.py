"""Which comparisons a study plans: by what its arms state, never by their names."""

from ecg_pipeline.study import load_study

STUDY = """\
extends: ptb_xl_small
models:
  zero: {like: heartbeit, pretrained: false, frozen: true}
  heartbeit_scratch: null
  scratch: {like: heartbeit, frozen: true}
  best: {like: heartbeit, pretrained: false}
  narrow: {family: small_cnn, window: ten_seconds, widths: [8, 16]}
tasks:
  myocardial_infarction: {models: [heartbeit, best, scratch, zero, small_cnn, narrow]}
  stemi: {models: [scratch, zero, resnet]}
finetuning: {models: {heartbeit_scratch: null}}
"""


def pairs(tmp_path, text=""):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY + text)
    study = load_study(path)
    return study, {
        task: [(one.model, one.other, one.against) for one in study.planned_pairs(task)] for task in study.tasks
    }


def test_a_network_is_compared_with_itself_from_nothing_and_with_the_baseline(tmp_path):
    study, planned = pairs(tmp_path)
    assert study.baseline == "small_cnn", "the first network that is not pretrained"
    assert planned["myocardial_infarction"] == [
        ("heartbeit", "best", "nothing"),
        ("heartbeit", "small_cnn", "baseline"),
    ]


def test_a_task_with_probes_alone_compares_the_probes(tmp_path):
    _, planned = pairs(tmp_path, "comparisons: {baseline: resnet}\n")
    assert planned["stemi"] == [("scratch", "zero", "nothing"), ("scratch", "resnet", "baseline")]


def test_the_baseline_is_the_studys_own_choice(tmp_path):
    study, planned = pairs(tmp_path, "comparisons: {baseline: narrow}\n")
    assert study.baseline == "narrow"
    assert ("heartbeit", "narrow", "baseline") in planned["myocardial_infarction"]


def test_of_two_arms_from_nothing_the_one_with_the_same_fine_tuning_is_taken(tmp_path):
    text = """\
extends: ptb_xl_small
models:
  other: {like: heartbeit, pretrained: false}
  another: {like: heartbeit, pretrained: false}
  heartbeit_scratch: null
finetuning:
  models:
    heartbeit_scratch: null
    another: {epochs: 16, batch: 16, max_learning_rate: 2.0e-3, layer_decay: 0.85}
"""
    path = tmp_path / "study.yaml"
    path.write_text(text)
    (first, *_) = load_study(path).planned_pairs("myocardial_infarction")
    assert (first.model, first.other) == ("heartbeit", "another")
