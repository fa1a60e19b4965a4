"""Dagster asset checks. If a blocking check fails, the output is not stored; a warning has no effect."""

from collections.abc import Sequence

import dagster as dg

from ecg_pipeline.provenance.record import CheckOutcome


def blocking_checks(
    key: Sequence[str], *names: str, partitions: dg.PartitionsDefinition | None = None
) -> list[dg.AssetCheckSpec]:
    """Specs of an asset's blocking checks; each partition has results of its own."""
    return [dg.AssetCheckSpec(name, asset=dg.AssetKey(key), blocking=True, partitions_def=partitions) for name in names]


def warning_checks(
    key: Sequence[str], *names: str, partitions: dg.PartitionsDefinition | None = None
) -> list[dg.AssetCheckSpec]:
    """Specs of checks that only warn."""
    return [dg.AssetCheckSpec(name, asset=dg.AssetKey(key), partitions_def=partitions) for name in names]


def check_result(name: str, found: Sequence[str], *, note: str = "", warns: bool = False) -> dg.AssetCheckResult:
    """Result of a check, which passes if nothing is found.

    found: one sentence for each problem. note: further information; with `warns` the passed check is a warning.
    """
    return _result(name, found, is_warning=warns and not found, note=note)


def warning_result(name: str, found: Sequence[str]) -> dg.AssetCheckResult:
    """Result of a check that only warns."""
    return _result(name, found, is_warning=True)


def _result(name: str, found: Sequence[str], *, is_warning: bool, note: str = "") -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN if is_warning else dg.AssetCheckSeverity.ERROR,
        metadata={"found": list(found) or ["nothing"], **({"note": note} if note else {})},
    )


def blocks(result: dg.AssetCheckResult) -> bool:
    """Whether a check result blocks the output: a failure that is not a warning."""
    return not result.passed and result.severity == dg.AssetCheckSeverity.ERROR


def outcome(result: dg.AssetCheckResult) -> CheckOutcome:
    """A check result as a record states it: without its sentences, which may name pseudonyms."""
    assert result.check_name is not None
    return CheckOutcome(result.check_name, result.passed, result.severity == dg.AssetCheckSeverity.WARN)


def failure_text(results: Sequence[dg.AssetCheckResult]) -> str:
    """Message on what the failed blocking checks found."""
    return "\n".join(
        f"check {result.check_name} found {getattr(result.metadata['found'], 'value', '')}"
        for result in results
        if blocks(result)
    )
