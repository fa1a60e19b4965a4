"""A wrong section on models or fine-tuning gets one error at its line; a study of the former schema is told what to
write instead."""

import pytest

from ecg_pipeline.models import FAMILIES
from ecg_pipeline_tests.study_checks.refused import names, refused

IMPOSSIBLE = [
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
]


@pytest.mark.parametrize(("text", "errors"), IMPOSSIBLE, ids=names(IMPOSSIBLE))
def test_a_wrong_model_is_refused_at_its_line(tmp_path, text, errors):
    assert refused(text, tmp_path) == errors
