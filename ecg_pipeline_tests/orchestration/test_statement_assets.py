"""Statements as targets, from exports to arrays: the assets of a study whose model predicts them."""

import pytest

from ecg_pipeline.cohorts.pretraining_set import pretraining_set, training_sets
from ecg_pipeline.cohorts.statements import StatementCodes, StatementTargets
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.models.small_cnn import SmallCnn
from ecg_pipeline.study import StudyError, load_study
from ecg_pipeline.training.recipes import PretrainRecipe
from ecg_pipeline_tests.orchestration.conftest import open_runner

STUDY = """\
extends: demo
name: statements
paper: null
synthetic: {patients: 100, ecgs: 150, seed: 3}
models: {heartbeit: null, ecg_fm: null, ecgfounder: null, d_beta: null, small_cnn: {widths: [8]}}
pretraining:
  heartbeit: null
  ecg_fm: null
  ecgfounder: null
  d_beta: null
  small_cnn: {recipe: {epochs: 1, warmup_epochs: 0}}
finetuning: {models: {ecg_fm: null, ecgfounder: null, d_beta: null}}
statements: {minimum: 5, exclude: [LEFT AXIS DEVIATION]}
tasks:
  low_lvef: {prompts: null}
  hcm: null
  stemi: null
  hypertrophy:
    title: Hypertrophy, as the cart states it
    sites: [mount_sinai, beth_israel]
    rule: {kind: statement, system: muse, positive: [LEFT VENTRICULAR HYPERTROPHY]}
"""
SITES = ("mount_sinai", "beth_israel")


@pytest.fixture(scope="module")
def predicting():
    """Small CNNs that would be pretrained on statements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SmallCnn, "targets", ("statement_targets",))
        patch.setattr(SmallCnn, "fitted", ("statement_codes",))
        patch.setattr(SmallCnn, "pretraining", PretrainRecipe)
        yield patch


@pytest.fixture(scope="module")
def statements(predicting, tmp_path_factory):
    """The archive of a study after its statement targets were materialised."""
    folder = tmp_path_factory.mktemp("statements")
    study = folder / "study.yaml"
    study.write_text(STUDY)
    predicting.setenv("ECG_HOME", str(folder / "home"))
    predicting.setenv("ECG_STUDY", str(study))
    runner = open_runner(study)
    assert runner.run_stale(["+statement_targets"])
    assert runner.run_stale(["+statement_targets"]) == []
    return runner.workspace


def test_codes_are_chosen_and_recorded_with_whom_they_were_chosen_from(statements):
    archive, study = statements.archive, statements.study
    made = StatementCodes(archive.folder(archive.require("statement_codes", None)))
    codes = dict(made.table().select("code", "positives").iter_rows())
    assert "NORMAL SINUS RHYTHM" in codes
    assert not {"LEFT AXIS DEVIATION", "LEFT VENTRICULAR HYPERTROPHY"} & codes.keys()
    assert min(codes.values()) >= 5
    stores = [WaveformStore(archive.folder(archive.require("waveform_store", site))).ecgs() for site in SITES]
    assert training_sets(made.folder)["statement_codes"].equals(pretraining_set(stores, study.split))
    assert [check.name for check in archive.require("statement_codes", None).checks] == ["no_withdrawn_patients"]


def test_targets_have_one_row_an_ecg_of_each_site(statements):
    archive = statements.archive
    for site in statements.study.sites:
        store = WaveformStore(archive.folder(archive.require("waveform_store", site)))
        made = StatementTargets(archive.folder(archive.require("statement_targets", site)))
        assert sorted(made.index()["ecg_id"]) == sorted(store.ecgs()["ecg_id"])
        known = {bool((said >= 0).any()) for _, said in made}
        assert known == {site != "ptb_xl_like"}, "PTB-XL's statements are of another system"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("statements: {exclude: [NORM]}", "3: statements.exclude: no pretraining site can state NORM"),
        ("statements: {minimum: 0}", "3: statements.minimum: a minimum of 0 ECGs must be at least 1"),
        (
            "sites: {mount_sinai: {format: hl7_aecg, site_names: []}, beth_israel: {pretraining: false}}",
            "sites: statements are pretrained on, but no pretraining site has any",
        ),
    ],
)
@pytest.mark.usefixtures("predicting")
def test_what_cannot_be_predicted_is_refused(tmp_path, change, said):
    (tmp_path / "base.yaml").write_text(STUDY)
    (tmp_path / "study.yaml").write_text(f"extends: base.yaml\nname: other\n{change}\n")
    with pytest.raises(StudyError) as error:
        load_study(tmp_path / "study.yaml")
    assert said in str(error.value)
