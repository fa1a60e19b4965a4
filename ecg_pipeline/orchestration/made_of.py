"""What the UI shows of an output's provenance: what it was made of, and the command that tells more."""

from collections.abc import Sequence

import dagster as dg

from ecg_pipeline.provenance.record import CUT, Record


def made_of(record: Record) -> dg.TableMetadataValue | dg.MarkdownMetadataValue:
    """Table of the upstream partitions of an output: asset, partition, data version, digest of the record."""
    if not record.upstream:
        return dg.MetadataValue.md("nothing upstream")
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "asset": entry.asset,
                    "partition": entry.partition or "–",
                    "data version": entry.data_version[:CUT],
                    "record": (entry.record or "–")[:CUT],
                }
            )
            for entry in record.upstream
        ]
    )


def with_audit_commands(
    assets: Sequence[dg.AssetsDefinition | dg.SourceAsset],
) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """The assets, each with the command that says where its outputs come from. Source assets are made of nothing."""

    def with_command(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.merge_attributes(metadata={"audit_command": f"ecg-pipeline audit {spec.key.to_user_string()}"})

    return [
        asset.map_asset_specs(with_command) if isinstance(asset, dg.AssetsDefinition) else asset for asset in assets
    ]
