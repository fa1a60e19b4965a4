"""Assets hand each other handles; what is stored and loaded is the folder that a record describes."""

from typing import Any, get_args, get_origin

import dagster as dg

from ecg_pipeline.provenance.archive import Archive


class HandleIOManager(dg.IOManager):
    """Loads a handle from the newest record of each upstream partition. Storing was done by whoever made the output."""

    def __init__(self, archive: Archive):
        self.archive = archive

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Nothing to do: the files and their record are in place before an asset returns."""

    def load_input(self, context: dg.InputContext) -> Any:
        """One handle, or for a fan-in a mapping from partition to handle in the order of the partitions."""
        asset = context.asset_key.to_user_string()
        kind = context.dagster_type.typing_type
        partitions = sorted(context.asset_partition_keys) if context.has_asset_partitions else [None]
        if get_origin(kind) is dict:
            handle = get_args(kind)[1]
            return {partition: self._load(handle, asset, partition) for partition in partitions}
        return self._load(kind, asset, partitions[0])

    def _load(self, handle: Any, asset: str, partition: str | None) -> Any:
        return handle(self.archive.folder(self.archive.require(asset, partition)))
