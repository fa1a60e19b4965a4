"""Who is in a task, with which label, and on which side of the split."""

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg

from ecg_pipeline.cohorts import cohort as cohort_module
from ecg_pipeline.cohorts.cohort import Cohort, SiteRecords, assemble_cohort, leaks
from ecg_pipeline.orchestration import show
from ecg_pipeline.orchestration.resources import House, identified
from ecg_pipeline.records.labels import ClinicalLabels
from ecg_pipeline.records.store import WaveformStore
from ecg_pipeline.study import Study


def cohort_asset(study: Study, task: str) -> dg.AssetsDefinition:
    """Asset `{task}/cohort`."""
    recipe = study.tasks[task]
    of_task = dg.SpecificPartitionsPartitionMapping([*recipe.sites, *recipe.external])

    @dg.asset(
        key=[task, "cohort"],
        group_name=task,
        ins={name: dg.AssetIn(partition_mapping=of_task) for name in ("waveform_store", "clinical_labels")},
        check_specs=[dg.AssetCheckSpec("no_leakage", asset=dg.AssetKey([task, "cohort"]), blocking=True)],
        kinds={"parquet"},
        **identified(cohort_module.REVISION, task=replace(recipe, fractions=()), split=study.split),
    )
    def cohort(  # With checks beside the value, Dagster takes a return annotation for that of several outputs.
        context: dg.AssetExecutionContext,
        house: dg.ResourceParam[House],
        waveform_store: dict[str, WaveformStore],
        clinical_labels: dict[str, ClinicalLabels],
    ):
        """Labelled ECGs with a split by patient (train, validation, test, external) and nested fractions."""
        sites = {
            site: SiteRecords(waveform_store[site].records(), clinical_labels[site].labels())
            for site in (*recipe.sites, *recipe.external)
        }
        return house.materialise(
            context,
            Cohort,
            lambda build: assemble_cohort(recipe, study.split, sites, build.folder),
            show.cohort,
            _no_leakage,
        )

    def _no_leakage(made: Cohort) -> Iterator[dg.AssetCheckResult]:
        found = leaks(made.table())
        yield dg.AssetCheckResult(check_name="no_leakage", passed=not found, metadata={"leaks": found or ["none"]})

    return cohort
