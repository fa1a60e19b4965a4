import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS
from ecg_pipeline.leads import derive, limb_lead

EIGHT = arrays(np.float64, (8, 3), elements=st.floats(-5, 5, width=32))


@given(EIGHT)
def test_the_limb_leads_keep_the_laws_of_the_limbs(x_mv):
    lead = dict(zip(LEADS, derive(x_mv), strict=True))
    assert np.allclose(lead["I"] + lead["III"], lead["II"])
    assert np.allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0)
    assert np.allclose(lead["aVL"], (lead["I"] - lead["III"]) / 2)
    assert np.allclose(lead["aVF"], (lead["II"] + lead["III"]) / 2)


@given(EIGHT)
def test_the_recorded_leads_stay_as_they_were(x_mv):
    derived = derive(x_mv)
    assert np.array_equal(derived[[LEADS.index(lead) for lead in INDEPENDENT_LEADS]], x_mv)


def test_a_batch_of_single_precision_stays_single_precision():
    twelve = derive(np.ones((3, 8, 10), np.float32))
    assert twelve.shape == (3, 12, 10)
    assert twelve.dtype == np.float32


def test_other_than_eight_leads_is_an_error():
    with pytest.raises(ValueError, match="8, T"):
        derive(np.zeros((12, 10)))


def test_a_cart_of_twelve_leads_agrees(ptb_xl):
    from_eight = derive(ptb_xl[:, [LEADS.index(lead) for lead in INDEPENDENT_LEADS]])
    # PTB-XL rounds each lead to a microvolt of its own.
    assert np.abs(from_eight - ptb_xl).max() < 0.003


def test_a_chest_lead_cannot_be_derived():
    with pytest.raises(ValueError, match="lead V3 was not recorded"):
        limb_lead("V3", np.zeros(3), np.zeros(3))
