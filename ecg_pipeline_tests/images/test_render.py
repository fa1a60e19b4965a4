from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.render import render, render_many

RECIPE = SheetRecipe(rows=4, columns=2, span_mv=3.0)
CELL_PX = RECIPE.cell_px[0]
ONE_COLUMN = SheetRecipe()
LAYOUTS = pytest.mark.parametrize("recipe", [RECIPE, ONE_COLUMN, SheetRecipe(2, 4, 64, 64, 8, 2.0, 1.0)])


def reference(x_mv, recipe):
    """The same sheet, said as plainly as possible: the extent of a finely interpolated trace in every column."""
    samples = x_mv.shape[1]
    ink = np.zeros((recipe.height_px, recipe.width_px))
    edges = np.arange(recipe.height_px)
    for cell, lead in zip(recipe.cells(), x_mv.astype(np.float64), strict=True):
        borders = np.minimum(np.arange(cell.width_px + 1) * samples / cell.width_px, samples - 1)
        for column in range(cell.width_px):
            inside = np.arange(samples)
            inside = inside[(inside >= borders[column]) & (inside <= borders[column + 1])]
            times = np.concatenate([borders[column : column + 2], inside])
            heights = cell.baseline_px - recipe.px_per_mv * np.interp(times, np.arange(samples), lead)
            upper, lower = heights.min() - recipe.stroke_px / 2, heights.max() + recipe.stroke_px / 2
            covered = np.clip(np.minimum(edges + 1, lower) - np.maximum(edges, upper), 0, 1)
            ink[:, cell.left_px + column] = np.maximum(ink[:, cell.left_px + column], covered)
    return np.round(255 * (1 - ink))


def in_lead(lead, x):
    """(8, T) with `x` in one lead and nothing in the others."""
    x_mv = np.zeros((8, len(x)))
    x_mv[lead] = x
    return x_mv


def alone(lead, x):
    """(8, T) with `x` in one lead and the others far off the sheet."""
    x_mv = np.full((8, len(x)), 1e6)
    x_mv[lead] = x
    return x_mv


def pulse(height_mv, at, samples=2500):
    x = np.zeros(samples)
    x[at] = height_mv
    return x


@LAYOUTS
def test_real_ecgs_look_as_the_reference_draws_them(filtered_mv, recipe):
    for x_mv in filtered_mv[:4]:
        assert np.abs(render(x_mv, recipe) - reference(x_mv, recipe)).max() <= 1


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.just(8), st.integers(1, 400)), elements=st.floats(-20, 20, width=32)),
    st.sampled_from([RECIPE, ONE_COLUMN]),
)
def test_any_trace_looks_as_the_reference_draws_it(x_mv, recipe):
    assert np.abs(render(x_mv, recipe) - reference(x_mv, recipe)).max() <= 1


@LAYOUTS
def test_no_signal_is_a_straight_line_on_white_paper(recipe):
    sheet = render(np.zeros((8, 2500)), recipe)
    assert (sheet == sheet[:, :1]).all()
    ink = (255 - sheet[:, 0].astype(float)) / 255
    assert ink.sum() == pytest.approx(recipe.rows * recipe.stroke_px, abs=0.02 * recipe.rows)
    far = np.ones(recipe.height_px, bool)
    for cell in recipe.cells():
        far[int(cell.baseline_px) - 3 : int(cell.baseline_px) + 3] = False
    assert (sheet[far] == 255).all()


@given(st.integers(0, 2499), st.integers(0, 7), st.sampled_from([RECIPE, ONE_COLUMN]))
def test_a_peak_of_one_sample_shows_at_full_height(at, lead, recipe):
    height_mv = 1.0
    sheet, cell = render(in_lead(lead, pulse(height_mv, at)), recipe), recipe.cells()[lead]
    column = cell.left_px + min(int(at * cell.width_px / 2500), cell.width_px - 1)
    top = cell.baseline_px - height_mv * recipe.px_per_mv
    assert (sheet[int(np.ceil(top)) : int(cell.baseline_px), column] == 0).all()


@given(st.integers(0, 2499), st.floats(0, 4), st.floats(0, 4))
def test_a_taller_pulse_never_loses_ink(at, one_mv, two_mv):
    small, tall = sorted([one_mv, two_mv])
    assert (render(in_lead(1, pulse(tall, at)), RECIPE) <= render(in_lead(1, pulse(small, at)), RECIPE)).all()


@given(st.integers(0, 2**32 - 1))
def test_every_column_has_the_trace_without_a_gap(seed):
    x = np.random.default_rng(seed).normal(scale=0.5, size=2500)
    sheet = render(in_lead(0, np.clip(x, -1.2, 1.2)), RECIPE)[:64, :112]
    for column in range(112):
        inked = np.flatnonzero(sheet[:, column] < 255)
        assert np.array_equal(inked, np.arange(inked[0], inked[-1] + 1))
        if column:
            assert ((sheet[:, column] < 255) & (sheet[:, column - 1] < 255)).any()


@given(arrays(np.float64, 100, elements=st.floats(-0.8, 0.8)), st.integers(0, 2))
def test_the_next_lead_draws_the_same_trace_one_row_lower(x, lead):
    upper, lower = render(alone(lead, x), RECIPE).astype(int), render(alone(lead + 1, x), RECIPE).astype(int)
    assert np.abs(upper[:-CELL_PX] - lower[CELL_PX:]).max() <= 1


@given(arrays(np.float64, 100, elements=st.floats(-0.8, 0.8)))
def test_one_cell_height_of_millivolts_is_one_row(x):
    low, high = render(alone(1, x), RECIPE).astype(int), render(alone(1, x + RECIPE.span_mv), RECIPE).astype(int)
    assert np.abs(low[CELL_PX:] - high[:-CELL_PX]).max() <= 1


@pytest.mark.parametrize("far_mv", [20, -20, 1e30, -1e30])
def test_a_trace_beyond_the_sheet_leaves_no_ink(far_mv):
    assert (render(np.full((8, 100), far_mv), RECIPE) == 255).all()


@given(st.floats(0.1, 0.9))
def test_twice_the_scale_of_half_the_signal_is_the_same_sheet(height_mv):
    x_mv = in_lead(2, pulse(height_mv, 300, 500))
    finer = replace(RECIPE, span_mv=RECIPE.span_mv / 2)
    assert np.abs(render(x_mv / 2, finer).astype(int) - render(x_mv, RECIPE)).max() <= 1


def test_a_lead_too_tall_for_its_cell_runs_on_to_the_edge_of_the_sheet():
    sheet = render(in_lead(3, pulse(1e30, 1000)), RECIPE)
    assert (sheet[:183, int(1000 * 112 / 2500)] == 0).all()


def test_crossing_traces_keep_the_darker():
    both = np.zeros((8, 2500))
    both[0], both[1] = pulse(-4, 700), pulse(4, 700)
    first, second = render(in_lead(0, both[0]), RECIPE), render(in_lead(1, both[1]), RECIPE)
    assert np.array_equal(render(both, RECIPE), np.minimum(first, second))


def test_many_are_one_by_one(filtered_mv):
    sheets = render_many(filtered_mv, RECIPE)
    assert sheets.shape == (16, 224, 224)
    assert sheets.dtype == np.uint8
    assert all(np.array_equal(sheet, render(x, RECIPE)) for sheet, x in zip(sheets, filtered_mv, strict=True))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_an_error(bad):
    with pytest.raises(ValueError, match="finite"):
        render(in_lead(0, pulse(bad, 3)), RECIPE)


@pytest.mark.parametrize("shape", [(12, 2500), (8, 0), (2500, 8)])
def test_another_shape_is_an_error(shape):
    with pytest.raises(ValueError, match="rendered from"):
        render(np.zeros(shape), RECIPE)
