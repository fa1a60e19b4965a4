"""Of each ancestor one version: what was made of several is refused in words, and doing what they say is enough."""

import re

import dagster as dg
import pytest

from ecg_pipeline.orchestration.runs import RunsFailed
from ecg_pipeline_tests.orchestration.copies import copied_runner, with_changes

pytestmark = pytest.mark.acceptance

SITE, OTHER = "mount_sinai", "beth_israel"
VIEWS = ("image_shards", "waveform_windows/ten_seconds")


def refusal(runner, asset, *partitions):
    """What a run says that is refused, and which of the archive's records is not touched by it."""
    keys = partitions or (None,)
    before = [runner.workspace.archive.newest(asset, partition) for partition in keys]
    with pytest.raises(RunsFailed) as raised:
        runner.run_stale([asset], partitions)
    assert [runner.workspace.archive.newest(asset, partition) for partition in keys] == before
    return str(raised.value)


def to_materialise(sentence):
    """The partitions that a refusal asks for, in its order."""
    lists = re.findall(r"materialise (.*) again, and then this", sentence)
    return [tuple(place.split(" ")) for place in dict.fromkeys(", ".join(lists).split(", "))]


def test_tokens_of_two_tokenizers_are_not_pretrained_on(runner, small_study, tmp_path, monkeypatch):
    changed = with_changes(small_study, tmp_path, tokenizer="{steps: 41}")
    again = copied_runner(runner, changed, tmp_path / "home", monkeypatch)
    again.run_stale(["image_tokenizer"])
    again.run_stale(["patch_tokens"], [SITE])
    message = refusal(again, "heartbeit/pretrained_checkpoint")
    assert "image_tokenizer is upstream in 2 versions" in message
    assert to_materialise(message) == [("patch_tokens", OTHER)]
    again.run_stale(["patch_tokens"], [OTHER])
    key = dg.AssetKey(["heartbeit", "pretrained_checkpoint"])
    would_read = again.workspace.upstream(again.definitions.resolve_asset_graph(), key, None)
    assert again.workspace.conflicts(would_read) == []


def test_an_old_model_is_not_tested_on_a_cohort_that_was_split_anew(runner, small_study, tmp_path, monkeypatch):
    changed = with_changes(small_study, tmp_path, split="{seed: 1}")
    again = copied_runner(runner, changed, tmp_path / "home", monkeypatch)
    again.run_stale(["hcm/cohort", "hcm/test_set"])
    message = refusal(again, "hcm/heartbeit/evaluation", f"1|{SITE}")
    assert "hcm/heartbeit/evaluation 1|mount_sinai was not materialised, because a check failed" in message
    assert re.search(r"training_never_saw_it found .*\d+ ECGs of the test split were seen by the fine-tuning", message)
    for seen_by in ("pretraining", "image tokenizer"):
        assert re.search(rf"pretraining_never_saw_it found .*were seen by the {seen_by}", message)
    # Nobody of the external hospital is in the split: its test set is the same, and what was found there stands.
    assert again.run_stale(["hcm/heartbeit/evaluation"], ["1|morningside"]) == []


def test_tests_are_not_made_of_newer_images_than_their_cohort(runner, small_study, tmp_path, monkeypatch):
    again = copied_runner(runner, small_study, tmp_path / "home", monkeypatch)
    folder = again.workspace.home / "hospital_system" / OTHER
    (folder / "ecg-0001.xml").rename(folder / "ecg-9999.xml")
    again.run_stale(["waveform_store", "filtered_waveforms", *VIEWS], [OTHER])
    message = refusal(again, "hcm/test_set", OTHER)
    assert f"waveform_store {OTHER} is upstream in 2 versions" in message
    assert ("hcm/cohort",) in to_materialise(message)
    # The cohort's other input was read of the files before: that is told in its turn.
    message = refusal(again, "hcm/cohort")
    assert f"raw_ecg_files {OTHER} is upstream in 2 versions" in message
    assert to_materialise(message) == [("clinical_labels", OTHER)]
    again.run_stale(["clinical_labels"], [OTHER])
    again.run_stale(["hcm/cohort"])
    assert again.run_stale(["hcm/test_set"], [OTHER])


def test_images_that_lag_behind_are_named_though_what_they_read_is_new(runner, small_study, tmp_path, monkeypatch):
    again = copied_runner(runner, small_study, tmp_path / "home", monkeypatch)
    folder = again.workspace.home / "hospital_system" / OTHER
    (folder / "ecg-0001.xml").rename(folder / "ecg-9999.xml")
    again.run_stale(["waveform_store", "clinical_labels", "filtered_waveforms"], [OTHER])
    again.run_stale(["hcm/cohort"])
    asked = to_materialise(refusal(again, "hcm/test_set", OTHER))
    assert sorted(asked) == sorted((asset, OTHER) for asset in ("waveform_store", "filtered_waveforms", *VIEWS))
    assert asked.index(("filtered_waveforms", OTHER)) < asked.index(("image_shards", OTHER)), "in the order of the work"
    assert asked[0] == ("waveform_store", OTHER)
    runs = again.run_stale([asset for asset, _ in asked], [OTHER])
    assert sorted(key.to_user_string() for run in runs for key in run.assets) == sorted(VIEWS)
    assert again.run_stale(["hcm/test_set"], [OTHER])
