"""A wrong section gets one error at its line; a study of the former schema is told what to write instead."""

import pytest

from ecg_pipeline.models import FAMILIES
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
pretraining:
  heartbeit:
    recipe: null
    weights: ''
""",
        [
            "5: pretraining.heartbeit.weights: weights must be a file name without a folder, not ``",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe: null
    weights: ..
""",
        [
            "5: pretraining.heartbeit.weights: weights must be a file name without a folder, not `..`",
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
pretraining:
  heartbeit:
    recipe:
      mask:
        patches: 10
""",
        [
            "6: pretraining.heartbeit.recipe.mask.patches: blocks of 16 patches or more do not fit into 10",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe:
      mask: {smallest_block: 50, largest_block: 40}
""",
        [
            "5: pretraining.heartbeit.recipe.mask.smallest_block: blocks of 50 patches or more do not fit into 40",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe:
      clip: 0
""",
        [
            "5: pretraining.heartbeit.recipe.clip: clip must be positive",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe:
      warmup_epochs: 9
""",
        [
            "5: pretraining.heartbeit.recipe.warmup_epochs: warmup_epochs must lie between 0 and 5, not 9",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe:
      seeds: [-1]
""",
        [
            "5: pretraining.heartbeit.recipe.seeds: a seed must lie between 0 and 4,294,967,295, not -1",
        ],
    ),
    (
        """\
extends: demo
finetuning:
  seeds: [0, 4294967296]
""",
        [
            "3: finetuning.seeds: a seed must lie between 0 and 4,294,967,295, not 4294967296",
        ],
    ),
    (
        """\
extends: demo
finetuning:
  max_learning_rate: .inf
""",
        [
            "3: finetuning.max_learning_rate: Input should be a finite number",
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
            "cinc",
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
models:
  other: {family: vit}
""",
        [
            f"3: models.other.family: there is no family `vit`; the families are {', '.join(FAMILIES)}",
        ],
    ),
    (
        """\
extends: demo
models:
  other:
    family: beit
""",
        [
            "4: models.other.family: the family `beit` is now called `heartbeit`: write `family: heartbeit`",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {family: [timm]}
""",
        [
            f"3: models.other.family: there is no family `['timm']`; the families are {', '.join(FAMILIES)}",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {name: resnet18}
""",
        [
            f"3: models.other: a model needs `family`, one of {', '.join(FAMILIES)}, or `like`, the name of "
            "another model",
        ],
    ),
    (
        """\
extends: demo
models:
  other: resnet18
""",
        [
            f"3: models.other: a model needs `family`, one of {', '.join(FAMILIES)}, or `like`, the name of "
            "another model",
        ],
    ),
    (
        """\
extends: demo
models: []
""",
        [
            "2: models: Input should be a valid dictionary",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {family: timm, nam: resnet18}
""",
        [
            "3: models.other.nam: no such key",
        ],
    ),
    (
        """\
extends: demo
models:
  other:
    family: timm
    name: resnet18
    weights: resnet18.safetensors
""",
        [
            "6: models.other.weights: weights are now named under `pretraining`: write `pretraining: {MODEL: "
            "{weights: FILE}}`, or nothing for random initialisation",
        ],
    ),
    (
        """\
extends: demo
models:
  heartbeit:
    weights: checkpoint-299.pth
""",
        [
            "4: models.heartbeit.weights: weights are now named under `pretraining`: write `pretraining: {MODEL: "
            "{weights: FILE}}`, or nothing for random initialisation",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {like: heartbeit, pretrained: false, width: 32}
""",
        [
            "3: models.other.width: no such key",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {like: heartbeit, pretrained: perhaps}
""",
        [
            "3: models.other.pretrained: Input should be a valid boolean, unable to interpret input",
        ],
    ),
    (
        """\
extends: ptb_xl
models:
  heartbeit_scratch:
    family: timm
    name: resnet18
""",
        [
            "4: models.heartbeit_scratch.family: give a family or `like`, not both: `family: null`, or `like: null`, "
            "removes an inherited key",
        ],
    ),
    (
        """\
extends: demo
pretraining: {model: heartbeit, recipe: {epochs: 5}}
""",
        [
            "2: pretraining.model: pretraining is by model: write `pretraining: {MODEL: {recipe: ...}}`",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  recipe: {epochs: 5}
""",
        [
            "3: pretraining.recipe: pretraining is by model: write `pretraining: {MODEL: {recipe: ...}}`",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  weights: checkpoint-299.pth
""",
        [
            "3: pretraining.weights: pretraining is by model: write `pretraining: {MODEL: {weights: FILE}}`",
        ],
    ),
    (
        """\
extends: demo
models:
  heartbeit: {family: beit}
  other: {family: timm, weights: a.safetensors}
pretraining:
  model: heartbeit
  recipe: {seed: 0}
""",
        [
            "3: models.heartbeit.family: the family `beit` is now called `heartbeit`: write `family: heartbeit`",
            "4: models.other.weights: weights are now named under `pretraining`: write `pretraining: {MODEL: "
            "{weights: FILE}}`, or nothing for random initialisation",
            "6: pretraining.model: pretraining is by model: write `pretraining: {MODEL: {recipe: ...}}`",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe:
      seed: 3
""",
        [
            "5: pretraining.heartbeit.recipe.seed: pretraining has a list of seeds now: write `seeds: [3]`",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    epochs: 3
""",
        [
            "4: pretraining.heartbeit.epochs: no such key",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe: {epocs: 3}
""",
        [
            "4: pretraining.heartbeit.recipe.epocs: no such key",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe: 5
""",
        [
            "4: pretraining.heartbeit.recipe: Input should be a dictionary or an instance of HeartBeitPretraining",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe: {seeds: []}
""",
        [
            "4: pretraining.heartbeit.recipe.seeds: seeds must have at least one seed, and none twice",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    family: timm
""",
        [
            "4: pretraining.heartbeit.family: no such key: the family is that of the model",
        ],
    ),
    (
        """\
extends: demo
pretraining: {heartbeit: 5}
""",
        [
            "2: pretraining.heartbeit: Input should be a valid dictionary or instance of Pretraining",
        ],
    ),
    (
        """\
extends: demo
pretraining: [heartbeit]
""",
        [
            "2: pretraining: Input should be a valid dictionary",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  nobody:
    recipe: {}
""",
        [
            "3: pretraining.nobody: there is no model `nobody` to pretrain; the models are heartbeit, small_cnn, "
            "ecg_fm, ecgfounder (`nobody: null` removes an inherited pretraining)",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {like: heartbeit, pretrained: false}
pretraining:
  other: {recipe: {}}
""",
        [
            "5: pretraining.other: `other` is an arm of `heartbeit`: pretrain that one, which an arm starts from",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {family: timm, name: resnet18}
pretraining:
  other:
    recipe: {epochs: 3}
""",
        [
            "6: pretraining.other.recipe: the family `timm` has no pretraining of its own: name a file as `weights`",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  small_cnn:
    recipe: {epochs: 3}
""",
        [
            "4: pretraining.small_cnn.recipe: the family `small_cnn` has no pretraining of its own: remove the section",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  small_cnn:
    weights: a.safetensors
""",
        [
            "4: pretraining.small_cnn.weights: the family `small_cnn` reads no published weights",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    weights: checkpoint-299.pth
""",
        [
            "4: pretraining.heartbeit.weights: give weights or a recipe, not both: `recipe: null` removes an "
            "inherited recipe",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe: null
    weights: [a.pth]
""",
        [
            "5: pretraining.heartbeit.weights: Input should be a valid string",
        ],
    ),
    (
        """\
extends: demo
finetuning:
  models:
    small_cnn: {max_learning_rate: 1.0e-3,
      epochs: 0}
""",
        [
            "5: finetuning.models.small_cnn.epochs: epochs must be at least 1",
        ],
    ),
    (
        """\
extends: demo
finetuning:
  models:
    small_cnn: {epocs: 3}
""",
        [
            "4: finetuning.models.small_cnn.epocs: no such key",
        ],
    ),
    (
        """\
extends: demo
finetuning:
  models:
    small_cnn:
      seeds: [1]
""",
        [
            "5: finetuning.models.small_cnn.seeds: no such key",
        ],
    ),
    (
        """\
extends: demo
finetuning:
  recipe: {epochs: 3}
""",
        [
            "3: finetuning.recipe: no such key",
        ],
    ),
    (
        """\
extends: demo
finetuning:
  epochs: 0
""",
        [
            "3: finetuning.epochs: epochs must be at least 1",
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
