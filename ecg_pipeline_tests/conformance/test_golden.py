"""The project gives the numbers that the reference implementations gave: every fixture below `--golden` is a test."""

from collections import Counter

import pytest

from ecg_pipeline_tests.conformance.fixtures import find_fixtures
from ecg_pipeline_tests.conformance.kinds import FAMILIES, check
from ecg_pipeline_tests.conftest import SHARED


def pytest_generate_tests(metafunc):
    given = metafunc.config.getoption("--golden")
    found = find_fixtures(given or SHARED / "golden")
    if given and not found:
        raise pytest.UsageError(f"--golden {given}: there is no fixture in it")
    cases = []
    for each in found:
        if each.family in FAMILIES:
            cases.append(pytest.param(each, id=f"{each.family}/{each.kind}"))
    others = Counter(fixture.family for fixture in found if fixture.family not in FAMILIES)
    for family, count in others.items():
        reason = f"{family}: {count} fixtures, but the project has no such family yet"
        cases.append(pytest.param(None, id=family, marks=pytest.mark.skip(reason=reason)))
    if not found:
        reason = f"there is no folder {SHARED.name}/golden beside the project"
        cases.append(pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason)))
    metafunc.parametrize("fixture", cases)


def test_fixture(fixture):
    check(fixture)
