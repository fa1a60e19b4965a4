"""The reports of the small study: what was planted is on the page, and each evaluation on test data is counted."""

import dagster as dg

from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.synthetic.hospital import read_planted


def folder_of(runner, asset, partition=None):
    return runner.workspace.archive.folder(runner.workspace.archive.require(asset, partition))


def test_every_planted_reject_is_on_the_page(runner):
    page = Report(folder_of(runner, "hcm/report")).page.read_text()
    planted = read_planted(runner.workspace.home / "hospital_system").sites
    task = runner.workspace.study.tasks["hcm"]
    sites = [planted[site].rejects for site in (*task.sites, *task.external)]
    for reason in sites[0]:
        cells = "".join(f"<td>{rejects[reason]}</td>" for rejects in sites)
        assert f"<td>rejected: {reason.replace('_', ' ')}</td>{cells}" in page


def test_each_evaluation_on_test_data_is_counted(runner):
    asset, partition = "stemi/heartbeit/evaluation", "1|ptb_xl_like"
    records = runner.workspace.archive.place(asset, partition) / "records"
    with open_instance(runner.workspace.home) as instance:
        found = instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(asset.split("/")), asset_partitions=[partition]), limit=1
        )
        made = found.records[0].asset_materialization
    assert made is not None
    metadata = made.metadata
    assert metadata["evaluation_count"].value == len(list(records.glob("*.json"))) > 0
    assert {"roc", "calibration", "decision", "subgroups"} <= metadata.keys()
    times = sum(
        runner.workspace.archive.times(f"stemi/{model}/evaluation", f"{fraction}|ptb_xl_like")
        for model in runner.workspace.study.models
        for fraction in ("0.5", "1")
    )
    page = Report(folder_of(runner, "stemi/report")).page.read_text()
    assert f"<td>ptb_xl_like</td><td>6</td><td>{times} times</td>" in page


def test_thresholds_were_fixed_on_validation_patients(runner):
    made = Evaluation(folder_of(runner, "low_lvef/heartbeit/evaluation", "1|morningside"))
    kept = made.metrics()["operating_points"]
    assert kept["reason"] is None
    assert set(made.thresholds()[0]) == {"youden", "sensitivity_90", "specificity_90"}
    assert len(made.evaluation_metrics().operating_points) == 3
