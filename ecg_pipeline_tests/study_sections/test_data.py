"""A wrong section on data, views, tasks or evaluation gets one error at its line."""

import pytest

from ecg_pipeline_tests.study_checks.refused import names, refused

IMPOSSIBLE = [
    (
        """\
extends: demo
paper: einthoven
""",
        [
            "2: paper: there is no paper `einthoven`; the papers are heartbeit",
        ],
    ),
    (
        """\
extends: demo
filters:
  samples: 2500
  high_hz: 300.0
""",
        [
            "4: filters.high_hz: band-pass 0.5-300.0 Hz must lie between 0 and half of 500 Hz",
        ],
    ),
    (
        """\
extends: demo
filters:
  high_hz: 30.0
  sampling_hz: 80
""",
        [
            "4: filters.sampling_hz: 80 Hz is too slow: noise is measured above 40 Hz, which takes more than 80 Hz",
        ],
    ),
    (
        """\
extends: demo
filters:
  order: 2
  median_samples: 2501
""",
        [
            "4: filters.median_samples: a median of 2501 samples is longer than the 2500 of a waveform",
        ],
    ),
    (
        """\
extends: demo
sheet:
  rows: 8
  margin_px: 15
""",
        [
            "4: sheet.margin_px: a sheet of 224 x 224 px with margins of 15 px does not divide into 8 x 1 cells of "
            "whole pixels",
        ],
    ),
    (
        """\
extends: demo
tokenizer:
  batch: 8
  vocabulary: 3
""",
        [
            "4: tokenizer.vocabulary: a vocabulary must have 4 to 32,767 tokens: with fewer its use always counts as "
            "collapsed, and tokens are stored as int16",
        ],
    ),
    (
        """\
extends: demo
evaluation:
  seed: -1
""",
        [
            "3: evaluation.seed: a seed must lie between 0 and 4,294,967,295, not -1",
        ],
    ),
    (
        """\
extends: demo
image_distance:
  natural: ..
""",
        [
            "3: image_distance.natural: natural must be the name of a folder below ECG_DATA, not a path: `..`",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  brooklyn:
    path: ''
""",
        [
            "4: sites.brooklyn.path: String should have at least 1 character",
        ],
    ),
    (
        """\
extends: demo
sites:
  ptb_xl_like:
    format: csv
""",
        [
            "4: sites.ptb_xl_like.format: there is no format `csv`; the formats are muse_xml, ptb_xl, mimic_iv_ecg, "
            "cinc, code15, sph, hl7_aecg, dicom",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    rule:
      kind: hunch
""",
        [
            "5: tasks.hcm.rule.kind: a rule needs a kind: measurement, diagnosis, statement",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    rule:
      kind: null
""",
        [
            "5: tasks.hcm.rule.kind: a rule needs a kind: measurement, diagnosis, statement",
        ],
    ),
    (
        """\
extends: demo
tasks:
  low_lvef:
    rule:
      codes: x
""",
        [
            "5: tasks.low_lvef.rule.codes: no such key",
        ],
    ),
    (
        """\
extends: demo
title: One
sites:
  morningside: {}
  morningside: {role: internal}
""",
        [
            "5: morningside: duplicate of the key in line 4: remove one",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds: {leads: [I, II, I]}
""",
        [
            "3: windows.ten_seconds.leads: a lead occurs twice among I, II, I",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    leads: [I, V9]
""",
        [
            "4: windows.ten_seconds.leads: V9 is none of the leads I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    seconds: 1.005
""",
        [
            "4: windows.ten_seconds.seconds: 1.005 s at 100 Hz must be a whole number of samples, at least 2",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    sampling_hz: 333
    seconds: 0.5
""",
        [
            "5: windows.ten_seconds.seconds: 0.5 s at 333 Hz must be a whole number of samples, at least 2",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    filter: {kind: band_pass, low_hz: 60.0, high_hz: 90.0}
""",
        [
            "4: windows.ten_seconds.filter.low_hz: a band-pass from 60.0 Hz on leaves nothing that 100 Hz can hold",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    filter: {kind: band_pass, low_hz: 60.0,
      high_hz: 50.0}
""",
        [
            "4: windows.ten_seconds.filter.low_hz: band-pass 60.0-50.0 Hz must begin above 0 Hz and end above its "
            "beginning",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    crop: last
""",
        [
            "4: windows.ten_seconds.crop: Input should be 'first' or 'all'",
            "4: windows.ten_seconds.crop: Input should be a valid integer, unable to parse string as an integer",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    crop: 1
""",
        [
            "4: windows.ten_seconds.crop: a crop to 1 windows: write `first`, `all`, or a number of at least 2",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    filter: {low_hz: 0.5}
""",
        [
            "4: windows.ten_seconds.filter: a filter needs a kind: band_pass, notch_band_pass_median",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    sampling_hz: 500
    filter: {kind: notch_band_pass_median, notch_q: 0.0}
""",
        [
            "5: windows.ten_seconds.filter.notch_q: notch_q must be above 0, not 0.0",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    filter: {kind: notch_band_pass_median}
""",
        [
            "4: windows.ten_seconds.filter: 50.0 Hz must lie below half of 100 Hz",
        ],
    ),
]


@pytest.mark.parametrize(("text", "errors"), IMPOSSIBLE, ids=names(IMPOSSIBLE))
def test_a_wrong_section_is_refused_at_its_line(tmp_path, text, errors):
    assert refused(text, tmp_path) == errors
