"""The statements that supervised pretraining predicts, and what each ECG says of them."""

import dagster as dg

from ecg_pipeline.cohorts import statements
from ecg_pipeline.cohorts.pretraining_set import pretraining_set, save_training_set
from ecg_pipeline.cohorts.statements import StatementCodes, StatementTargets, answers, choose_codes, target_site
from ecg_pipeline.ingest.labels import ClinicalLabels
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.checks import blocking_checks
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import DATA
from ecg_pipeline.orchestration.partitions import site_partitions
from ecg_pipeline.orchestration.resources import Build, Events, Workspace
from ecg_pipeline.orchestration.withdrawn import no_withdrawn_patients
from ecg_pipeline.provenance.withdraw import CHECK
from ecg_pipeline.study import Study

STATEMENTS = "statement_targets"
"""The target that families pretrain on which predict statements."""


def statement_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Assets `statement_codes`, and `statement_targets` by site, of a study that pretrains on them."""
    if STATEMENTS not in study.targets:
        return []
    pretraining = dg.SpecificPartitionsPartitionMapping(list(study.pretraining_sites))
    asked = answers(study.tasks[task] for task in study.tasks_pretrained_on(STATEMENTS))

    @dg.asset(
        group_name="statements",
        ins={name: dg.AssetIn(partition_mapping=pretraining) for name in ("waveform_store", "clinical_labels")},
        check_specs=blocking_checks(["statement_codes"], CHECK),
        kinds={"parquet"},
        pool=DATA,
        **identified(statements.CODES_REVISION, statements=study.statements, answers=asked, split=study.split),
    )
    def statement_codes(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        waveform_store: dict[str, WaveformStore],
        clinical_labels: dict[str, ClinicalLabels],
    ) -> Events:
        """Codes that enough training patients of the pretraining sites have, without those that its tasks ask for."""

        def make(build: Build) -> None:
            ecgs = pretraining_set((store.ecgs() for store in waveform_store.values()), study.split)
            save_training_set(build.folder, "statement_codes", ecgs)
            choose_codes(clinical_labels, ecgs, study.statements, answers=asked, out=build.folder)

        yield from workspace.materialise(
            context,
            StatementCodes,
            make=make,
            metadata_of=metadata.statement_codes,
            check=lambda made: [no_withdrawn_patients(study, workspace.home, made.folder)],
        )

    @dg.asset(
        partitions_def=site_partitions(study),
        group_name="statements",
        kinds={"zarr"},
        pool=DATA,
        **identified(statements.TARGETS_REVISION),
    )
    def statement_targets(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        waveform_store: WaveformStore,
        clinical_labels: ClinicalLabels,
        statement_codes: StatementCodes,
    ) -> Events:
        """What is stated of each ECG: every code stated, not stated, or unknown."""
        yield from workspace.materialise(
            context,
            StatementTargets,
            make=lambda build: target_site(
                waveform_store,
                clinical_labels,
                statement_codes,
                out=build.folder,
                progress=build.progress,
                previous=build.previous(),
            ),
            metadata_of=lambda made: metadata.statement_targets(made, statement_codes),
        )

    return [statement_codes, statement_targets]
