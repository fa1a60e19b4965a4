import pytest

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS
from ecg_pipeline.signals.filters import FilterRecipe, clean, crop
from ecg_pipeline_tests.real import read_ptb_xl


@pytest.fixture(scope="session")
def filtered_mv(shared):
    """Real ECGs as they are rendered: (16, 8, 2500) float32 millivolts."""
    eight = [LEADS.index(lead) for lead in INDEPENDENT_LEADS]
    recipe = FilterRecipe()
    return clean(crop(read_ptb_xl(shared, 16)[:, eight], 500, recipe), recipe)
