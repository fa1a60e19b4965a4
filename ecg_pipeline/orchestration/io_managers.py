"""IO manager of handles: an input is loaded as a handle of the folder that the upstream record names."""

from typing import Any, get_args, get_origin

import dagster as dg

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import Upstream


class HandleIOManager(dg.IOManager):
    """Loads a handle from the newest record of each upstream partition, and keeps its data version.

    Outputs are stored by `Workspace.materialise`.
    """

    def __init__(self, archive: Archive):
        self.archive = archive
        self._loaded: dict[tuple[str, str], dict[tuple[str, str | None], Upstream]] = {}

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Nothing to do: the files and their record are in place before an asset returns."""

    def load_input(self, context: dg.InputContext) -> Any:
        """One handle, or for a fan-in a mapping from partition to handle in the order of the partitions."""
        kind = context.dagster_type.typing_type
        partitions = sorted(context.asset_partition_keys) if context.has_asset_partitions else [None]
        if get_origin(kind) is dict:
            handle = get_args(kind)[1]
            return {partition: self._load(context, handle, partition) for partition in partitions}
        return self._load(context, kind, partitions[0])

    def loaded(self, context: dg.AssetExecutionContext) -> dict[tuple[str, str | None], Upstream]:
        """What was loaded for a step, by asset and partition, with the versions that its handles have."""
        return self._loaded.pop((context.run.run_id, context.op_def.name), {})

    def _load(self, context: dg.InputContext, handle: Any, partition: str | None) -> Any:
        asset = context.asset_key.to_user_string()
        record = self.archive.require(asset, partition)
        step = context.step_context.run_id, context.op_def.name
        self._loaded.setdefault(step, {})[asset, partition] = Upstream(
            asset, partition, record.data_version, record.digest
        )
        return handle(self.archive.folder(record))
