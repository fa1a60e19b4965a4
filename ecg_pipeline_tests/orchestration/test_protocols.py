"""Only the official protocol is handed test patients to choose an epoch on, and whatever it gives says so."""

import dagster as dg
import mlflow
import polars as pl
import pytest

from ecg_pipeline.cli import _print_results
from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.orchestration.assets.training import _examples
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.study import load_study
from ecg_pipeline.tracking import tracking_uri
from ecg_pipeline_tests.orchestration.conftest import open_runner


@pytest.fixture
def cohort(tmp_path):
    splits = ["train"] * 20 + ["validation"] * 6 + ["test"] * 8 + ["external"] * 4
    table = pl.DataFrame(
        {
            "ecg_id": [f"r{number}" for number in range(len(splits))],
            "patient": [f"p{number}" for number in range(len(splits))],
            "split": splits,
            "fraction_order": [(number + 1) / 20 if split == "train" else None for number, split in enumerate(splits)],
        }
    )
    table.write_parquet(tmp_path / "cohort.parquet")
    return Cohort(tmp_path)


@pytest.mark.parametrize(
    ("protocol", "trained", "chosen_on"),
    [("honest", {"train"}, {"validation"}), ("official", {"train", "validation"}, {"test"})],
)
@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_who_is_seen(cohort, tmp_path, protocol, trained, chosen_on, fraction):
    path = tmp_path / "study.yaml"
    path.write_text(f"extends: demo\nfinetuning: {{protocol: {protocol}}}\n")
    study = load_study(path)
    train, selection = _examples(cohort, study, study.finetuning.recipe, fraction)
    assert set(train["split"]) <= trained
    assert set(selection["split"]) == chosen_on
    if fraction == 1:
        assert set(train["split"]) == trained


OFFICIAL = "{epochs: 2, batch: 8, protocol: official, seeds: [0, 1],"
ASSETS = ("stemi/resnet/finetuned_model", "stemi/resnet/evaluation", "stemi/report", "benchmark_report")


@pytest.fixture
def official(runner, small_study, tmp_path):
    """One model of the small study, trained twice by the official protocol; afterwards all is as it was."""
    path = tmp_path / "official.yaml"
    changed = small_study.read_text().replace("{epochs: 1, batch: 8,", OFFICIAL)
    assert OFFICIAL in changed
    path.write_text(changed)
    opened = open_runner(path)
    try:
        assert opened.run_stale([*ASSETS, "stemi/saliency"], ["1", "1|ptb_xl_like"])
        yield opened
    finally:
        runner.run_stale()


def test_the_official_protocol_is_said_to_be_optimistic_wherever_a_figure_is_printed(official, capsys):
    workspace, partition = official.workspace, {"finetuned_model": "1", "evaluation": "1|ptb_xl_like"}
    records = {asset: workspace.archive.require(asset, partition.get(asset.split("/")[-1])) for asset in ASSETS}
    made = Evaluation(workspace.archive.folder(records["stemi/resnet/evaluation"]))
    assert made.predictions()["seed"].unique().sort().to_list() == [0, 1]
    assert made.metrics()["model"]["chosen_by"] == "highest AUROC on test patients: optimistic"
    for asset in ASSETS[2:]:
        report = Report(workspace.archive.folder(records[asset]))
        page, rows = report.page.read_text(), report.results().filter(pl.col("optimistic"))
        assert set(rows.select("task", "model", "fraction", "seeds").rows()) == {("stemi", "resnet", 1.0, 2)}
        assert "Optimistic results." in page
        assert "Optimistic: chosen on test patients." in page
        assert "over 2 seeds" in page
    run = mlflow.MlflowClient(tracking_uri(workspace.home)).get_run(records[ASSETS[0]].mlflow_run_id)
    assert (run.data.tags["protocol"], run.data.tags["optimistic"]) == ("official", "True")
    assert {"seed_0/test_auroc", "seed_1/test_auroc"} <= run.data.metrics.keys()
    assert records[ASSETS[0]].seeds | {"recipe.seeds.0": 0, "recipe.seeds.1": 1} == records[ASSETS[0]].seeds
    with open_instance(workspace.home) as instance:
        for asset in ASSETS[:2]:
            event = instance.get_latest_materialization_event(dg.AssetKey(asset.split("/")))
            assert event.asset_materialization.metadata["optimistic"].value is True
        check = dg.AssetCheckKey(dg.AssetKey(ASSETS[0].split("/")), "chosen_on_validation")
        held = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check].evaluation
        assert (held.passed, held.severity) == (True, dg.AssetCheckSeverity.WARN)
        assert "optimistic" in held.metadata["note"].value
    _print_results(workspace.study)
    assert "optimistic" in capsys.readouterr().out
