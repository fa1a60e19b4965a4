"""Sites that could be read but not run are refused: their keys, shared files and shared patient numbers."""

import pytest

from ecg_pipeline_tests.study_checks.refused import names, refused

IMPOSSIBLE = [
    (
        """\
extends: demo
sites:
  mount_sinai: {pretraining: false}
  beth_israel: {pretraining: false}
""",
        [
            "2: sites: no site has `pretraining: true`: set it for at least one internal or transfer site",
        ],
    ),
    (
        """\
extends: demo
sites:
  morningside:
    pretraining: true
""",
        [
            "4: sites.morningside.pretraining: an external site must not be used for pretraining",
        ],
    ),
    (
        """\
extends: demo
sites:
  ptb_xl_like:
    site_names: [PTB]
""",
        [
            "4: sites.ptb_xl_like.site_names: files of format ptb_xl have no site name, so all would be rejected: "
            "use site_names only with muse_xml",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  brooklyn:
    label_tables: [echo_reports.csv, ../diagnoses.csv]
""",
        [
            "4: sites.brooklyn.label_tables: `../diagnoses.csv` must be the relative path of a file in the site's "
            "folder, without `..`",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  brooklyn:
    label_tables: [echo_reports.csv, echo_reports.csv]
""",
        [
            "4: sites.brooklyn.label_tables: a label table is listed twice",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  brooklyn:
    path: ${ECG_DATA}/beth_israel/
    site_names: [MOUNT SINAI BETH ISRAEL]
""",
        [
            "4: sites.brooklyn.path: sites beth_israel and brooklyn would read the same files: give each its own "
            "folder, or, for MUSE exports, different site_names",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  ptb_xl:
    path: ${ECG_DATA}/brooklyn/ptb_xl
""",
        [
            "4: sites.ptb_xl.path: sites brooklyn and ptb_xl would read the same files: give each its own folder, "
            "or, for MUSE exports, different site_names",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  brooklyn:
    patients: public
""",
        [
            "4: sites.brooklyn.patients: sites mount_sinai, mount_sinai_west, beth_israel, brooklyn, morningside "
            "share the mrn_system `mount_sinai_health_system`, but private, public and synthetic identifiers get "
            "different pseudonyms, so one patient would count as several: make `patients` equal, or give each site "
            "its own mrn_system",
        ],
    ),
    (
        """\
extends: heartbeit
split: {kind: ptb_xl_folds}
sites:
  ptb_xl: {mrn_system: mount_sinai_health_system, patients: private}
""",
        [
            "2: split.kind: sites mount_sinai, mount_sinai_west, beth_israel, brooklyn, morningside, ptb_xl share "
            "the mrn_system `mount_sinai_health_system`, but only those of format ptb_xl have folds, so one patient "
            "could both train and test: give each site its own mrn_system, or use `kind: patient_hash`",
        ],
    ),
    (
        """\
extends: demo
sites:
  morningside:
    label_tables: null
""",
        [
            "4: sites.morningside.label_tables: a measurement needs a label table, and `morningside` has none: add "
            "label_tables, or remove the site",
            "4: sites.morningside.label_tables: a diagnosis needs a label table, and `morningside` has none: add "
            "label_tables, or remove the site",
        ],
    ),
]


@pytest.mark.parametrize(("text", "errors"), IMPOSSIBLE, ids=names(IMPOSSIBLE))
def test_a_wrong_site_is_refused_at_its_line(tmp_path, text, errors):
    assert refused(text, tmp_path) == errors
