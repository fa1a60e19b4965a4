"""The check that no output holds a patient who withdrew, and its failures in Dagster's database."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

import dagster as dg
import polars as pl

from ecg_pipeline.ingest.withdrawals import Register, register_entry
from ecg_pipeline.orchestration.checks import check_result
from ecg_pipeline.provenance.withdraw import CHECK
from ecg_pipeline.storage.shards import TABLES
from ecg_pipeline.study import Study, site_key


def no_withdrawn_patients(study: Study, home: Path, *folders: Path) -> dg.AssetCheckResult:
    """Check that no table in the folders of some builds has a patient of the register."""
    register = {one.entry for one in Register(home).withdrawals()}
    if not register:
        return check_result(CHECK, [], note="nobody withdrew")
    keys = {site_key(study, site, home) for site in study.sites}
    found = []
    for path in _tables(folders):
        patients = pl.scan_parquet(path).select(pl.col("patient").drop_nulls().unique()).collect().to_series()
        held = sum(any(register_entry(key, patient) in register for key in keys) for patient in patients)
        if held:
            found.append(f"{path.name} holds {held} patients who withdrew: materialise what it is made of again")
    return check_result(CHECK, found, note=f"{len(register)} patients withdrew")


def report_failed(instance: dg.DagsterInstance, outputs: Iterable[tuple[str, str | None]], *, withdrawal: str) -> None:
    """Report the check as failed for outputs that hold, or were made of, a patient who withdrew.

    Events need a run of their own: without one, Dagster stores a check of a partition once and never again.
    """
    run = dg.DagsterRun(
        job_name="withdrawal",
        run_id=str(uuid4()),
        status=dg.DagsterRunStatus.SUCCESS,
        tags={"ecg_pipeline/withdrawal": withdrawal},
    )
    instance.add_run(run)
    for asset, partition in outputs:
        evaluation = dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey.from_user_string(asset),
            check_name=CHECK,
            passed=False,
            metadata={"found": dg.MetadataValue.json(["it saw a patient who withdrew: materialise it again"])},
            blocking=True,
            partition=partition,
        )
        event = dg.DagsterEvent(
            dg.DagsterEventType.ASSET_CHECK_EVALUATION.value, run.job_name, event_specific_data=evaluation
        )
        instance.report_dagster_event(event, run.run_id)


def _tables(folders: Iterable[Path]) -> Iterator[Path]:
    """The tables with a column of patients, without those of single shards."""
    for folder in folders:
        for path in sorted((*folder.glob("*.parquet"), *folder.glob("*/*.parquet"))):
            if path.parent.name != TABLES and "patient" in pl.read_parquet_schema(path):
                yield path
