"""The cohort of a task (ECGs, labels, splits) and its test set at each site."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import dagster as dg
import polars as pl

from ecg_pipeline.cohorts import cohort as cohort_module
from ecg_pipeline.cohorts import leaks
from ecg_pipeline.cohorts import test_set as testing
from ecg_pipeline.cohorts.cohort import Cohort, SiteEcgs, assemble_cohort, known_internally
from ecg_pipeline.cohorts.pretraining_set import pretraining_set
from ecg_pipeline.cohorts.tasks import TaskRecipe
from ecg_pipeline.cohorts.test_set import TestSet, assemble_test_set
from ecg_pipeline.ingest.labels import ClinicalLabels
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.views import input_name, view_key
from ecg_pipeline.orchestration.checks import blocking_checks, check_result
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import DATA
from ecg_pipeline.orchestration.partitions import own_site, tested_partitions, tested_sites
from ecg_pipeline.orchestration.resources import Events, Workspace
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.study import Study


def cohort_asset(study: Study, task: str) -> dg.AssetsDefinition:
    """Asset `{task}/cohort`."""
    recipe = study.tasks[task]
    own = (*recipe.sites, *recipe.external)
    # The training set of published weights is not known.
    pretrained_on = study.pretraining_sites if study.trained_here else ()
    of_task, of_both = (
        dg.SpecificPartitionsPartitionMapping(list(dict.fromkeys(sites))) for sites in (own, (*own, *pretrained_on))
    )

    @dg.asset(
        key=[task, "cohort"],
        group_name=task,
        ins={
            "waveform_store": dg.AssetIn(partition_mapping=of_both),
            "clinical_labels": dg.AssetIn(partition_mapping=of_task),
        },
        check_specs=blocking_checks(
            [task, "cohort"],
            "patients_in_one_split",
            "waveforms_in_one_split",
            "external_patients_unknown_internally",
            "fractions_nested_by_patient",
            "labels_follow_the_rule",
        ),
        kinds={"parquet"},
        **identified(
            cohort_module.REVISION,
            task=replace(recipe, fractions=(), models=(), prompts={}),
            split=study.split,
            pretrained_on=pretrained_on,
        ),
    )
    def cohort(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        waveform_store: dict[str, WaveformStore],
        clinical_labels: dict[str, ClinicalLabels],
    ) -> Events:
        """Labelled ECGs with a split by patient (train, validation, test, external) and nested fractions."""
        ecgs = {site: store.ecgs() for site, store in waveform_store.items()}
        sites = {site: SiteEcgs(ecgs[site], clinical_labels[site].labels()) for site in own}
        seen = None
        if pretrained_on:
            seen = pretraining_set((ecgs[site] for site in pretrained_on), study.split)
        yield from workspace.materialise(
            context,
            Cohort,
            make=lambda build: assemble_cohort(
                recipe, split=study.split, sites=sites, pretrained_on=seen, out=build.folder
            ),
            metadata_of=metadata.cohort,
            check=lambda made: _cohort_checks(made, recipe, sites, seen),
        )

    return cohort


def _cohort_checks(
    made: Cohort, recipe: TaskRecipe, sites: Mapping[str, SiteEcgs], pretrained_on: pl.DataFrame | None
) -> Iterator[dg.AssetCheckResult]:
    """Check the splits, fractions and labels of a cohort."""
    table = made.table()
    internal = known_internally(recipe, sites, pretrained_on)
    labels = {site: ecgs.labels for site, ecgs in sites.items()}
    yield check_result("patients_in_one_split", leaks.patients_crossing(table))
    yield check_result("waveforms_in_one_split", leaks.waveforms_crossing(table))
    yield check_result(
        "external_patients_unknown_internally",
        leaks.external_seen_internally(table, external=recipe.external, internal=internal),
    )
    yield check_result("fractions_nested_by_patient", leaks.unnested(table))
    yield check_result("labels_follow_the_rule", leaks.mislabelled(table, labels, recipe.rule))


def test_set_asset(study: Study, task: str) -> dg.AssetsDefinition:
    """Asset `{task}/test_set`, by site."""
    views = list(dict.fromkeys(study.recipes[model].view for model in study.models_of(task)))
    of_site = own_site(tested_sites(study, task))

    @dg.asset(
        key=[task, "test_set"],
        group_name=task,
        partitions_def=tested_partitions(study, task),
        ins={
            "cohort": dg.AssetIn(key=[task, "cohort"]),
            **{
                input_name(view): dg.AssetIn(key=view_key(view), partition_mapping=of_site, dagster_type=ArrayShards)
                for view in views
            },
        },
        kinds={"zarr", "parquet"},
        pool=DATA,
        **identified(testing.REVISION, views=views),
    )
    def test_set(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace], cohort: Cohort, **inputs: ArrayShards
    ) -> Events:
        """Test ECGs of one site with what models read of them, so that an evaluation depends on its own site only."""
        yield from workspace.materialise(
            context,
            TestSet,
            make=lambda build: assemble_test_set(
                cohort.test(context.partition_key), {view: inputs[input_name(view)] for view in views}, build.folder
            ),
            metadata_of=metadata.test_set,
        )

    return test_set
