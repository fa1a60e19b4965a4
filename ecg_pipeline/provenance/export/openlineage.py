"""Provenance of an output as OpenLineage events, a START and a COMPLETE for every output, one JSON object a line.

The datasets are assets. Which partition of an asset was read or written stands in the subset facets.
"""

from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from ecg_pipeline.provenance.export.extra import audit_extra
from ecg_pipeline.provenance.export.facts import Facts, InputFact, OutputFact, dimensions, site_names, zulu
from ecg_pipeline.storage.files import write_text

PRODUCER = "urn:ecg-pipeline:producer"


def write(facts: Facts, out: Path) -> list[Path]:
    """Write the events to the file `out`, in the order of time."""
    with audit_extra():
        from openlineage.client.serde import Serde

        lines = [Serde.to_json(event) for event in events(facts)]
    return [write_text(out, "".join(line + "\n" for line in lines))]


def events(facts: Facts) -> list[Any]:
    """The events (`event_v2.RunEvent`) of the output, of what it was made of, and of its evaluations."""
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState, set_producer
    from openlineage.client.generated.source_code_location_job import SourceCodeLocationJobFacet

    set_producer(PRODUCER)
    found = []
    namespace = f"ecg-pipeline/{facts.study.name}"
    for output in facts.described:
        run = Run(str(uuid5(NAMESPACE_URL, output.uri)), {})
        code = SourceCodeLocationJobFacet(type="git", url="urn:ecg-pipeline", version=output.git_commit)
        job = Job(namespace, output.asset, {"sourceCodeLocation": code} if output.git_commit else {})
        for state, time in (RunState.START, output.started_at), (RunState.COMPLETE, output.ended_at):
            ended = state is RunState.COMPLETE
            read = [_input(facts, namespace, entry) for entry in output.inputs]
            written = [_output(facts, namespace, output, ended=ended)]
            event = RunEvent(
                eventTime=zulu(time), producer=PRODUCER, run=run, job=job, eventType=state, inputs=read, outputs=written
            )
            found.append(event)
    return sorted(found, key=lambda event: (event.eventTime, event.job.name, event.run.runId, event.eventType.value))


def _input(facts: Facts, namespace: str, entry: InputFact) -> Any:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.generated.base_subset_dataset import InputSubsetInputDatasetFacet

    subset = _subset(facts, entry.partition)
    of_read: dict[str, Any] = {"subset": InputSubsetInputDatasetFacet(subset)} if subset else {}
    return InputDataset(namespace=namespace, name=entry.asset, facets=_version(entry.data_version), inputFacets=of_read)


def _output(facts: Facts, namespace: str, output: OutputFact, *, ended: bool) -> Any:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.generated.base_subset_dataset import OutputSubsetOutputDatasetFacet
    from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet

    subset = _subset(facts, output.partition)
    of_written: dict[str, Any] = {"subset": OutputSubsetOutputDatasetFacet(subset)} if subset else {}
    if ended:
        size = OutputStatisticsOutputDatasetFacet(fileCount=len(output.files), size=output.size_bytes)
        of_written["outputStatistics"] = size
    version = _version(output.data_version) if ended else {}
    return OutputDataset(namespace=namespace, name=output.asset, facets=version, outputFacets=of_written)


def _subset(facts: Facts, partition: str | None) -> Any:
    """The condition that names a partition; None for assets without partitions."""
    from openlineage.client.generated.base_subset_dataset import Partition, PartitionSubsetCondition

    if partition is None:
        return None
    return PartitionSubsetCondition([Partition(dimensions(partition, site_names(facts)), partition)])


def _version(data_version: str) -> dict[str, Any]:
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet

    return {"version": DatasetVersionDatasetFacet(data_version)}
