"""A wrong section on pretraining gets one error at its line; a study of the former schema is told what to write
instead."""

import pytest

from ecg_pipeline_tests.study_checks.refused import names, refused

IMPOSSIBLE = [
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
            "ecg_fm, ecgfounder, d_beta (`nobody: null` removes an inherited pretraining)",
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
]


@pytest.mark.parametrize(("text", "errors"), IMPOSSIBLE, ids=names(IMPOSSIBLE))
def test_a_wrong_pretraining_is_refused_at_its_line(tmp_path, text, errors):
    assert refused(text, tmp_path) == errors
