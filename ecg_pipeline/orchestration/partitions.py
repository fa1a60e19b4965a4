"""How the assets are cut: by site, by fraction of the training data, and by both.

Not cut by task or model: Dagster allows two dimensions, so these are asset keys. Never cut by ECG or by patient.
"""

import dagster as dg

# Dagster hands the graph out (`Definitions.resolve_asset_graph`) but does not export its type.
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph as AssetGraph

from ecg_pipeline.study import Study

SITE, FRACTION = "site", "fraction"


def site_partitions(study: Study) -> dg.StaticPartitionsDefinition:
    """One partition a hospital or data set."""
    return dg.StaticPartitionsDefinition(list(study.sites))


def fraction_partitions(study: Study, task: str) -> dg.StaticPartitionsDefinition:
    """One partition a fraction of the training patients."""
    fractions = study.tasks[task].fractions or study.fractions
    return dg.StaticPartitionsDefinition([fraction_key(fraction) for fraction in fractions])


def evaluation_partitions(study: Study, task: str) -> dg.MultiPartitionsDefinition:
    """Where the test patients come from, and the fraction that the model was trained on."""
    sites = dg.StaticPartitionsDefinition([*study.tasks[task].sites, *study.tasks[task].external])
    return dg.MultiPartitionsDefinition({SITE: sites, FRACTION: fraction_partitions(study, task)})


def fraction_key(fraction: float) -> str:
    """Partition key of a fraction: 0.25 -> "0.25", 1.0 -> "1"."""
    return f"{fraction:g}"


def dimensions(definition: dg.PartitionsDefinition | None, partition: str | None) -> dict[str, str]:
    """A partition key by its dimensions; for one dimension without a name, that of the study it stands for."""
    if isinstance(definition, dg.MultiPartitionsDefinition) and partition is not None:
        return dict(definition.get_partition_key_from_str(partition).keys_by_dimension)
    return {} if partition is None else {"": partition}


def upstream_partitions(
    graph: AssetGraph, key: dg.AssetKey, partition: str | None
) -> list[tuple[dg.AssetKey, str | None]]:
    """Every (asset, partition) that a partition reads, in a fixed order.

    Dagster cannot map one dimension onto a part of a static set, so its graph says that an evaluation at one site reads
    the images of all the task's sites. It reads those of its own, and that is what is returned here.
    """
    own_site = dimensions(graph.get(key).partitions_def, partition).get(SITE)
    parents = graph.get_parents_partitions(key, partition).parent_partitions
    read = [
        (parent.asset_key, parent.partition_key)
        for parent in parents
        if own_site is None or parent.asset_key.path[-1] != "image_shards" or parent.partition_key == own_site
    ]
    return sorted(read, key=lambda entry: (entry[0].path, entry[1] or ""))
