"""Every other format, and D-BETA on the reports of one site, pressed at once in an empty home in the UI."""

import pytest

from ecg_pipeline.cohorts.test_set import TestSet
from ecg_pipeline.evaluation.zero_shot import PRETRAINED, UNTRAINED, ZeroShot
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.texts.site_texts import ClinicalTexts
from ecg_pipeline_tests.orchestration.conftest import check_all_succeeded, press_everything
from ecg_pipeline_tests.orchestration.test_other_formats import (
    PATIENTS,
    check_nobody_is_named,
    write_formats,
)
from ecg_pipeline_tests.orchestration.test_zero_shot_assets import SIZES

pytestmark = pytest.mark.acceptance

WITH_REPORTS = """\
extends: formats.yaml
name: reports
sites: {mimic: {pretraining: true}}
windows: {millivolts: {sampling_hz: 100, seconds: 10.0, short: pad}}
texts: {vocabulary: 40, longest: 32, negatives: 2}
models: {d_beta: {family: d_beta, window: millivolts, SIZES}}
pretraining:
  d_beta: {recipe: {epochs: 2, batch: 8, group: 8, warmup_epochs: 0, equal_reports: ignored}}
tasks:
  fibrillation: {models: [small_cnn]}
  sinus_rhythm: {models: [small_cnn]}
  arrhythmia: {models: [small_cnn]}
  carts_fibrillation: {prompts: {en: Atrial fibrillation. Abnormal ECG.}}
""".replace("SIZES", SIZES)


@pytest.fixture(scope="module")
def pressed_formats(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    write_formats(folder, shared / "data" / "other_formats")
    study, home = folder / "reports.yaml", folder / "home"
    study.write_text(WITH_REPORTS)
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECG_PSEUDONYM_KEY", "a secret of this test alone")
        with press_everything(home, study) as found:
            yield found


def test_the_backfill_succeeds_without_a_failed_run(pressed_formats):
    check_all_succeeded(pressed_formats, "reports")


def test_texts_are_those_that_the_files_hold(pressed_formats):
    archive = Archive(pressed_formats[0].folder / "reports")
    texts = ClinicalTexts(archive.folder(archive.require("clinical_texts", "mimic"))).texts()
    assert texts["text"].value_counts().sort("text").rows() == [
        ("atrial fibrillation abnormal ecg", PATIENTS // 2),
        ("sinus rhythm abnormal ecg", PATIENTS // 2),
    ]


def test_prompts_score_every_tested_ecg_and_the_page_says_so(pressed_formats):
    archive = Archive(pressed_formats[0].folder / "reports")

    def folder(asset, site=None):
        return archive.folder(archive.require(f"carts_fibrillation/{asset}", site))

    scored = ZeroShot(folder("d_beta/zero_shot", "mimic")).predictions()
    assert set(scored["ecg_id"]) == set(TestSet(folder("test_set", "mimic")).table()["ecg_id"])
    assert set(scored["network"]) == {PRETRAINED, UNTRAINED}
    assert "Zero-shot" in Report(folder("report")).page.read_text()


def test_nobodys_name_is_in_anything_that_is_written(pressed_formats):
    check_nobody_is_named(pressed_formats[0].folder)
