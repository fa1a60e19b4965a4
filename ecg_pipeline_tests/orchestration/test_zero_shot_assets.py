"""Zero-shot as an asset: a D-BETA pretrained on a hospital's texts is tried on the prompts of its tasks."""

import dagster as dg
import numpy as np
import pytest

from ecg_pipeline.evaluation.zero_shot import ALL, PRETRAINED, UNTRAINED, ZeroShot
from ecg_pipeline.models.d_beta import DBeta
from ecg_pipeline.orchestration.assets import ingest as records
from ecg_pipeline.orchestration.assets import study_assets
from ecg_pipeline.orchestration.assets.published import published_names
from ecg_pipeline.provenance.withdraw import CHECKED
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.study import StudyError, load_study
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline_tests.orchestration.conftest import open_runner

SITE, ASSET = "ptb_xl_like", "norm/d_beta/zero_shot"
SIZES = (
    "conv_widths: [8, 8], conv_kernels: [8, 8], conv_strides: [8, 8], width: 16, depth: 1, heads: 2, mlp_width: 24, "
    "position_kernel: 4, position_groups: 2, text_width: 16, text_depth: 1, text_heads: 2, text_head_width: 6, "
    "text_mlp_width: 20, joint_width: 12, joint_heads: 2, joint_depth: 1, reconstruct_after: 1, decoder_width: 8, "
    "decoder_heads: 2, decoder_depth: 1"
)
STUDY = """\
name: prompts
title: Prompts
sites:
  ptb_xl_like: {{title: P, format: ptb_xl, path: {system}/ptb_xl_like, patients: public, pretraining: true}}
split: {{test: 0.4, validation: 0.15}}
windows: {{ten_seconds: {{sampling_hz: 100, short: pad}}}}
models:
  d_beta: {{family: d_beta, window: ten_seconds, {sizes}}}
  probe: {{like: d_beta, frozen: true}}
  small_cnn: {{family: small_cnn, window: ten_seconds, widths: [8]}}
pretraining:
  d_beta: {{recipe: {{epochs: 1, batch: 8, group: 4, warmup_epochs: 0, seeds: [0, 1], equal_reports: ignored}}}}
texts: {{vocabulary: 120, longest: 32, negatives: 4}}
tasks:
  norm:
    title: Normal
    sites: [ptb_xl_like]
    rule: {{kind: statement, system: scp, positive: [NORM]}}
    models: [probe]
    prompts: {{en: "Sinus rhythm. Normal ECG.", de: Sinusrhythmus normales EKG}}
  infarction:
    title: Infarction
    sites: [ptb_xl_like]
    rule: {{kind: statement, system: scp, positive: [IMI, INJAS, INJAL]}}
    models: [d_beta, small_cnn]
    prompts: {{en: Inferior myocardial infarction}}
fractions: [1.0]
finetuning: {{epochs: 1, batch: 8, seeds: [0, 1]}}
evaluation: {{bootstrap_draws: 20}}
saliency: {{ecgs: 1, errors: 0}}
"""


@pytest.fixture
def base(tmp_path):
    """The study's file, of which others can be variants."""
    (tmp_path / "base.yaml").write_text(STUDY.format(system=tmp_path, sizes=SIZES))
    return tmp_path


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """A runner of the study after its zero-shot of one task was materialised."""
    folder = tmp_path_factory.mktemp("prompts")
    write_hospital_system(HospitalSystem(patients=120, ecgs=200, seed=3), folder / "system")
    study = folder / "study.yaml"
    study.write_text(STUDY.format(system=folder / "system", sizes=SIZES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECG_HOME", str(folder / "home"))
        patch.setenv("ECG_STUDY", str(study))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(records, "SETTLE_S", 0.0)
        opened = open_runner(study)
        assert opened.run_stale([f"+{ASSET}"])
        yield opened


def variant(folder, change):
    (folder / "study.yaml").write_text(f"extends: base.yaml\nname: other\n{change}\n")
    return folder / "study.yaml"


def code_versions(study):
    assets = [one for one in study_assets(load_study(study)) if isinstance(one, dg.AssetsDefinition)]
    return {key.to_user_string(): version for one in assets for key, version in one.code_versions_by_key.items()}


def test_a_network_of_which_a_task_has_the_probe_alone_is_tried_with_the_seeds_of_pretraining(runner):
    archive = runner.workspace.archive
    record = archive.require(ASSET, SITE)
    made, metrics = ZeroShot(archive.folder(record)), ZeroShot(archive.folder(record)).metrics()
    tested = made.predictions()
    assert metrics["model"]["seeds"] == [0, 1]
    assert metrics["model"]["pretraining_saw"] == "ECGs, reports"
    assert len(tested) == metrics["ecgs"] * 2 * (3 + 3 + 2)
    scores = tested["score"].to_numpy()
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > metrics["ecgs"]
    turns = {(row["network"], row["prompts"], row["language"]) for row in metrics["scores"]}
    assert turns == {
        *((network, "norm", language) for network in (PRETRAINED, UNTRAINED) for language in ("en", "de", ALL)),
        *((PRETRAINED, "infarction", language) for language in ("en", ALL)),
    }
    assert metrics["prompts"]["norm"]["de"]["words"] == "sinusrhythmus normales ecg"
    assert all(said["unknown"] == 0 for said in metrics["prompts"]["norm"].values())
    checks = {check.name: check.passed for check in record.checks}
    assert checks == {"pretraining_never_saw_it": True, "no_withdrawn_patients": True}
    assert "zero_shot" in CHECKED
    assert {one.asset for one in record.upstream} == {
        "norm/test_set",
        "d_beta/pretrained_checkpoint",
        "text_tokenizer",
    }
    assert runner.run_stale([f"+{ASSET}"]) == []


@pytest.mark.acceptance
def test_the_report_of_a_task_shows_it(runner):
    assert runner.run_stale(["+infarction/report"])
    archive = runner.workspace.archive
    report = Report(archive.folder(archive.require("infarction/report", None)))
    made = ZeroShot(archive.folder(archive.require("infarction/d_beta/zero_shot", SITE)))
    rows = report.zero_shot().filter(model="d_beta", site=SITE)
    assert rows["auroc"].to_list() == [row["auroc"]["value"] for row in made.metrics()["scores"]]
    assert 'id="infarction-zero_shot"' in report.page.read_text()


def test_a_familys_revision_makes_what_its_networks_give_stale(base, monkeypatch):
    before = code_versions(base / "base.yaml")
    monkeypatch.setattr(DBeta, "revision", DBeta.revision + 1)
    after = code_versions(base / "base.yaml")
    assert {asset for asset in before if before[asset] != after[asset]} == {
        "d_beta/pretrained_checkpoint",
        "d_beta/features",
        "norm/probe/finetuned_model",
        "infarction/d_beta/finetuned_model",
        "norm/d_beta/zero_shot",
        "infarction/d_beta/zero_shot",
    }


def test_prompts_are_part_of_what_is_tried_and_of_no_cohort(base):
    before = code_versions(base / "base.yaml")
    after = code_versions(variant(base, "tasks: {infarction: {prompts: {en: infarct}}}"))
    changed = {asset for asset in before if before[asset] != after[asset]}
    assert {one for one in changed if not one.endswith("report")} == {
        "norm/d_beta/zero_shot",
        "infarction/d_beta/zero_shot",
    }


def test_a_task_without_prompts_or_with_small_cnns_alone_has_no_such_asset(base):
    assert not [one for one in code_versions(variant(base, "tasks: {norm: {prompts: null}}")) if one == ASSET]


def test_networks_that_were_taken_over_need_their_tokenizer(base):
    taken = "pretraining: {d_beta: {recipe: null, weights: d_beta.pth}}"
    with pytest.raises(StudyError) as error:
        load_study(variant(base, taken))
    assert "`d_beta` is taken over, and its tokenizer is needed for the prompts of `norm`" in str(error.value)
    study = variant(base, f"{taken}\ntexts: {{t5: flan}}")
    named = published_names(load_study(study))
    assert (named["d_beta"], named["text_tokenizer"]) == ("d_beta.pth", "flan/tokenizer.json")
    assets = code_versions(study)
    assert ASSET in assets
    assert "text_tokenizer" in assets
    assert not {"clinical_texts", "text_tokens", "text_negatives"} & assets.keys()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "tasks: {infarction: {models: [small_cnn]}}",
            "tasks.infarction.models: no model of the task starts from a pretraining that reads texts: add one of "
            "d_beta to its models, or remove the prompts",
        ),
        ("tasks: {norm: {prompts: {fr: rythme sinusal}}}", "tasks.norm.prompts.fr: prompts are in en, de, sv, not in"),
        ("tasks: {norm: {prompts: {en: ' '}}}", "tasks.norm.prompts.en: a prompt must say something"),
    ],
)
def test_prompts_that_nothing_can_be_asked_are_refused(base, change, said):
    with pytest.raises(StudyError) as error:
        load_study(variant(base, change))
    assert said in str(error.value)
