"""Partitions definitions of the assets: by site, by fraction of the training patients, and by both.

Task and model are asset keys, because Dagster allows two dimensions only. There is no partition an ECG or patient.
"""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from ecg_pipeline.study import Study

SITE, FRACTION = "site", "fraction"

AssetGraph = Any
"""Type of `dg.Definitions.resolve_asset_graph()`, which Dagster does not export."""


def site_partitions(study: Study) -> dg.StaticPartitionsDefinition:
    """One partition a hospital or data set."""
    return dg.StaticPartitionsDefinition(list(study.sites))


def fraction_partitions(study: Study, task: str) -> dg.StaticPartitionsDefinition:
    """One partition a fraction of the training patients."""
    fractions = study.tasks[task].fractions or study.fractions
    return dg.StaticPartitionsDefinition([fraction_key(fraction) for fraction in fractions])


def tested_partitions(study: Study, task: str) -> dg.StaticPartitionsDefinition:
    """One partition a site at which a task is tested, the external ones after the others."""
    return dg.StaticPartitionsDefinition(tested_sites(study, task))


def tested_sites(study: Study, task: str) -> list[str]:
    """The sites at which a task is tested."""
    return [*study.tasks[task].sites, *study.tasks[task].external]


def evaluation_partitions(study: Study, task: str) -> dg.MultiPartitionsDefinition:
    """Where the test patients come from, and the fraction that the model was trained on."""
    return dg.MultiPartitionsDefinition(
        {SITE: tested_partitions(study, task), FRACTION: fraction_partitions(study, task)}
    )


def own_site(sites: Iterable[str]) -> dg.StaticPartitionMapping:
    """Partition mapping from all sites to an asset with some of them: each site depends on the same site."""
    return dg.StaticPartitionMapping({site: site for site in sites})


def fraction_key(fraction: float) -> str:
    """Partition key of a fraction: 0.25 -> "0.25", 1.0 -> "1"."""
    return f"{fraction:g}"


def dimensions(definition: dg.PartitionsDefinition | None, partition: str | None) -> dict[str, str]:
    """A partition key by its dimensions; for a single dimension under the empty name."""
    if isinstance(definition, dg.MultiPartitionsDefinition) and partition is not None:
        return dict(definition.get_partition_key_from_str(partition).keys_by_dimension)
    return {} if partition is None else {"": partition}


def upstream_partitions(
    graph: AssetGraph, key: dg.AssetKey, partition: str | None
) -> list[tuple[dg.AssetKey, str | None]]:
    """Every (asset, partition) that a partition reads, in a fixed order."""
    parents = graph.get_parents_partitions(key, partition).parent_partitions
    read = [(parent.asset_key, parent.partition_key) for parent in parents]
    return sorted(read, key=lambda entry: (entry[0].path, entry[1] or ""))
