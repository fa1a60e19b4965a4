"""The checks hold for other shapes, options and seeds, by an independent implementation of the same descriptions."""

import pytest

from ecg_pipeline_tests.conformance.kinds import FOUNDER_DBETA, HEARTBEIT, check

KINDS = [*HEARTBEIT, *FOUNDER_DBETA]
"""Those of ECG-FM are in `test_ecg_fm`, with a reference of their own."""


@pytest.mark.parametrize("kind", KINDS)
def test_kind(other_shapes, kind):
    of_kind = [fixture for fixture in other_shapes if fixture.kind == kind]
    assert of_kind
    for fixture in of_kind:
        check(fixture)
