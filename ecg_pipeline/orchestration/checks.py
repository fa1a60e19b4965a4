"""Blocking checks: what a law finds, as Dagster shows it. A broken law holds an output back."""

from collections.abc import Sequence

import dagster as dg


def blocking(key: Sequence[str], *names: str) -> list[dg.AssetCheckSpec]:
    """Specs of an asset's checks, without which nothing downstream goes on."""
    return [dg.AssetCheckSpec(name, asset=dg.AssetKey(key), blocking=True) for name in names]


def verdict(name: str, found: Sequence[str], note: str = "", warns: bool = False) -> dg.AssetCheckResult:
    """A check that passes where nothing is found.

    found: sentences on what is wrong. note: what a reader must know besides, as a warning if it `warns`.
    """
    return dg.AssetCheckResult(
        check_name=name,
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN if warns and not found else dg.AssetCheckSeverity.ERROR,
        metadata={"found": list(found) or ["nothing"], **({"note": note} if note else {})},
    )
