"""The checks hold for other shapes, options and seeds, by an independent implementation of the same descriptions."""

import pytest

from ecg_pipeline_tests.conformance.kinds import FAMILIES, check

KINDS = [kind for kinds in FAMILIES.values() for kind in kinds]


@pytest.mark.parametrize("kind", KINDS)
def test_kind(other_shapes, kind):
    of_kind = [fixture for fixture in other_shapes if fixture.kind == kind]
    assert of_kind
    for fixture in of_kind:
        check(fixture)
