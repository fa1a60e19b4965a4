"""Tasks that could be read but not run are refused: names, sites, labels, fractions, models."""

import pytest

from ecg_pipeline_tests.study_checks.refused import names, refused

IMPOSSIBLE = [
    (
        """\
extends: demo
comparisons:
  baseline: heartbeit
  fractions: [0.5]
  mean_of: [hcm, norm]
""",
        [
            "3: comparisons.baseline: `heartbeit` is pretrained: name a model that is not, which says what pretraining "
            "is worth",
            "4: comparisons.fractions: no task is trained on 0.5 of its patients",
            "5: comparisons.mean_of: there is no task `norm`; the tasks are low_lvef, hcm, stemi",
        ],
    ),
    (
        """\
extends: demo
split:
  kind: ptb_xl_folds
sites: {ptb_xl_like: null}
tasks: {stemi: null}
""",
        [
            "3: split.kind: no site is of format ptb_xl, so none has folds: use `kind: patient_hash`",
        ],
    ),
    (
        """\
extends: demo
fractions: [0.001, 1.0]
""",
        [
            "2: fractions: 0.001 of at most 397 training patients is one patient, too few to train `low_lvef`: use a "
            "larger fraction, or more synthetic patients",
            "2: fractions: 0.001 of at most 397 training patients is one patient, too few to train `hcm`: use a "
            "larger fraction, or more synthetic patients",
            "2: fractions: 0.001 of at most 175 training patients is one patient, too few to train `stemi`: use a "
            "larger fraction, or more synthetic patients",
        ],
    ),
    (
        """\
extends: demo
tasks: {hcm: null, low_lvef: null, stemi: null}
""",
        [
            "2: tasks: there is no task: add at least one",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    sites: [mount_sinai, atlantis]
    external: [beth_israel]
""",
        [
            "4: tasks.hcm.sites: there is no site `atlantis`; the sites are mount_sinai, beth_israel, morningside, "
            "ptb_xl_like",
            "5: tasks.hcm.external: the role of `beth_israel` is internal: move it to `sites`, or set its role to "
            "external",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    sites: [morningside]
    external: []
""",
        [
            "4: tasks.hcm.sites: the role of `morningside` is external: move it to `external`",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    external: [morningside, morningside]
""",
        [
            "4: tasks.hcm.external: a site is listed twice",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    external: [mount_sinai]
""",
        [
            "4: tasks.hcm.external: mount_sinai cannot be both internal and external",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    sites: [ptb_xl_like]
""",
        [
            "4: tasks.hcm.sites: a diagnosis needs a label table, and `ptb_xl_like` has none: add label_tables, or "
            "remove the site",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    sites: [mount_sinai]
""",
        [
            "4: tasks.stemi.sites: ECGs of `mount_sinai` carry no statements of system scp: format muse_xml has "
            "muse; change the rule, or remove the site",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    sites: [mount_sinai]
    rule: {system: muse, positive: [STEMI, ACUTE MI]}
""",
        ["5: tasks.stemi.rule.positive: system muse has no statement STEMI"],
    ),
    (
        """\
extends: demo
sites:
  challenge: {title: Challenge, format: cinc, path: cinc, patients: public}
tasks:
  rbbb: {title: R, sites: [challenge], rule: {kind: statement, system: snomed, positive: ["713427006"]}}
""",
        ["5: tasks.rbbb.rule.positive: snomed 713427006 is read as 59118001: write that"],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    rule: {system: snomed}
""",
        [
            "4: tasks.stemi.rule.system: ECGs of `ptb_xl_like` carry no statements of system snomed: format ptb_xl "
            "has scp; change the rule, or remove the site",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    rule: {positive: []}
""",
        [
            "4: tasks.stemi.rule.positive: no statement makes an ECG positive: name at least one",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    rule:
      exclude: [INJAS]
""",
        [
            "5: tasks.stemi.rule.exclude: INJAS cannot be in both `positive` and `exclude`",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    rule:
      minimum_likelihood: 101
""",
        [
            "5: tasks.stemi.rule.minimum_likelihood: minimum_likelihood of scp must lie between 0 and 100, not 101",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  ptb_xl:
    format: cinc
    label_tables: [measured.csv]
tasks:
  stemi:
    rule: {system: null, positive: null, kind: measurement}
""",
        [
            "8: tasks.stemi.rule.kind: a measurement must be close in time to the ECG, and ECGs of format cinc of "
            "`ptb_xl` have no time: use another rule, or remove the site",
        ],
    ),
    (
        """\
extends: demo
tasks:
  low_lvef:
    rule:
      window_days: -1
""",
        [
            "5: tasks.low_lvef.rule.window_days: a window must have 0 to 36,525 days, not -1",
        ],
    ),
    (
        """\
extends: demo
models:
  cohort: {family: timm, name: resnet18}
""",
        [
            "3: models.cohort: every task has an asset of this name: choose another for the model",
        ],
    ),
    (
        """\
extends: demo
models:
  image_tokenizer: {family: timm, name: resnet18}
tokenizer: {kind: dalle, vocabulary: null, hidden: null, steps: null, batch: null}
""",
        [
            "3: models.image_tokenizer: a fitted asset has this name: choose another for the model",
        ],
    ),
    (
        """\
extends: demo
models:
  a__x: {family: timm, name: resnet18}
  x: {family: timm, name: resnet18}
tasks:
  hcm__a: {title: T, sites: [mount_sinai], rule: {kind: diagnosis}}
  hcm: {models: null}
""",
        [
            "6: tasks.hcm__a: task `hcm__a` with model `x` gets the same name as task `hcm` with model `a__x`: "
            "rename one, without a double underscore",
        ],
    ),
    (
        """\
extends: demo
fractions: []
""",
        [
            "2: fractions: there is no fraction: add one; 1.0 is all training patients",
        ],
    ),
    (
        """\
extends: demo
fractions:
  - 0.5
  - 0.50000001
""",
        [
            "2: fractions: two fractions are equal in six digits: remove one",
            "2: fractions: 0.50000001 has more than six digits, the length of a partition key: write 0.5",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    fractions: [0.3333333333, 1.0]
""",
        [
            "4: tasks.hcm.fractions: 0.3333333333 has more than six digits, the length of a partition key: write "
            "0.333333",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    models: [nobody, small_cnn]
""",
        [
            "4: tasks.hcm.models: there is no model `nobody`; the models are heartbeit, small_cnn, ecg_fm, "
            "ecgfounder, d_beta",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    models: [small_cnn, small_cnn]
""",
        [
            "4: tasks.hcm.models: a model is listed twice",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    models: small_cnn
""",
        [
            "4: tasks.hcm.models: Input should be a valid tuple",
        ],
    ),
    (
        """\
extends: demo
models: {heartbeit: null, small_cnn: null, ecg_fm: null, ecgfounder: null, d_beta: null}
pretraining: null
tasks: {low_lvef: {prompts: null}, hcm: {models: null}, stemi: {models: null}}
finetuning: {models: null}
""",
        [
            "2: models: there is no model: add at least one",
        ],
    ),
    (
        """\
extends: demo
models:
  pretrained: {family: timm, name: resnet18}
""",
        [
            "3: models.pretrained: every task has an asset of this name: choose another for the model",
        ],
    ),
    (
        """\
extends: demo
tasks:
  waveform_windows: {title: T, sites: [mount_sinai], rule: {kind: diagnosis}}
""",
        [
            "3: tasks.waveform_windows: other assets are called `waveform_windows`: choose another name",
        ],
    ),
    (
        """\
extends: demo
models:
  published: {family: timm, name: resnet18}
""",
        [
            "3: models.published: other assets are called `published`: choose another name",
        ],
    ),
]


@pytest.mark.parametrize(("text", "errors"), IMPOSSIBLE, ids=names(IMPOSSIBLE))
def test_a_wrong_task_is_refused_at_its_line(tmp_path, text, errors):
    assert refused(text, tmp_path) == errors
