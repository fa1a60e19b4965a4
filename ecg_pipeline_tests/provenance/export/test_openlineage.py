"""Events are what OpenLineage's library writes and accepts, with the partition of every asset that has any."""

import json

import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.generated.base_subset_dataset import (
    InputSubsetInputDatasetFacet,
    OutputSubsetOutputDatasetFacet,
    Partition,
    PartitionSubsetCondition,
)
from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet
from openlineage.client.generated.source_code_location_job import SourceCodeLocationJobFacet
from openlineage.client.serde import Serde

from ecg_pipeline_tests.provenance.homes import SITES


@pytest.fixture
def events(exported):
    return [json.loads(line) for line in exported("openlineage").read_text().splitlines()]


def test_a_start_and_a_completion_for_every_output_in_the_order_of_time(events, facts):
    assert [event["eventTime"] for event in events] == sorted(event["eventTime"] for event in events)
    for kind in ("START", "COMPLETE"):
        of_kind = [event for event in events if event["eventType"] == kind]
        assert len({event["run"]["runId"] for event in of_kind}) == len(of_kind) == len(facts.described)


def test_partitions_stand_in_subset_facets(events):
    done = [event for event in events if event["eventType"] == "COMPLETE"]
    model = next(event for event in done if event["job"]["name"].endswith("finetuned_model"))
    written = model["outputs"][0]["outputFacets"]["subset"]["outputCondition"]
    assert written == {"type": "partition", "partitions": [{"identifier": "1", "dimensions": {"fraction": "1"}}]}
    read = {(entry["name"], _partition(entry)) for entry in model["inputs"]}
    sites = {("image_shards", site) for site in SITES[:2]}
    assert read == {("heartbeit/pretrained_checkpoint", None), ("low_lvef/cohort", None), *sites}
    evaluation = next(event for event in done if event["job"]["name"].endswith("evaluation"))
    condition = evaluation["outputs"][0]["outputFacets"]["subset"]["outputCondition"]
    assert set(condition["partitions"][0]["dimensions"]) == {"fraction", "site"}


def _partition(entry):
    subset = entry.get("inputFacets", {}).get("subset")
    return subset["inputCondition"]["partitions"][0]["dimensions"]["site"] if subset else None


def test_the_library_builds_the_same_events_again(exported):
    for line in exported("openlineage").read_text().splitlines():
        assert Serde.to_json(built(json.loads(line))) == line


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (lambda event: event.update(eventTime="yesterday"), "invalid literal"),
        (lambda event: event["run"].update(runId="1"), "badly formed"),
        (lambda event: event["outputs"][0]["outputFacets"]["subset"].pop("outputCondition"), "outputCondition"),
        (lambda event: event["inputs"][0]["facets"]["version"].update(digest="1"), "digest"),
    ],
)
def test_the_library_refuses_a_defect(events, plant, why):
    event = next(event for event in events if event["job"]["name"] == "image_shards")
    built(event)
    plant(event)
    with pytest.raises((TypeError, ValueError), match=why):
        built(event)


def built(event):
    """An event through the library's own classes, which take no key that they do not know."""
    stated = {name: value for name, value in event.items() if name != "schemaURL"}
    return RunEvent(
        **stated
        | {
            "eventType": RunState[event["eventType"]],
            "run": Run(**event["run"]),
            "job": Job(**event["job"] | {"facets": facets(event["job"]["facets"])}),
            "inputs": [InputDataset(**dataset(entry)) for entry in event["inputs"]],
            "outputs": [OutputDataset(**dataset(entry)) for entry in event["outputs"]],
        }
    )


def dataset(entry):
    return {name: facets(value) if name.lower().endswith("facets") else value for name, value in entry.items()}


def facets(stated):
    classes = {
        "version": DatasetVersionDatasetFacet,
        "sourceCodeLocation": SourceCodeLocationJobFacet,
        "outputStatistics": OutputStatisticsOutputDatasetFacet,
    }
    found = {}
    for name, facet in stated.items():
        content = {key: value for key, value in facet.items() if not key.startswith("_")}
        if name == "subset":
            kind = OutputSubsetOutputDatasetFacet if "Output" in facet["_schemaURL"] else InputSubsetInputDatasetFacet
            content = {key: condition(value) for key, value in content.items()}
            found[name] = kind(**content)
        else:
            found[name] = classes[name](**content)
    return found


def condition(stated):
    return PartitionSubsetCondition(**stated | {"partitions": [Partition(**one) for one in stated["partitions"]]})
