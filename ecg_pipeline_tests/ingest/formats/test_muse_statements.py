"""Statements of a cart: only names of the closed list, and nothing that a person wrote."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.formats.muse_statements import muse_statements
from ecg_pipeline.ingest.labels import collect_labels
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.statements import statement_names
from ecg_pipeline_tests.ingest.conftest import waveform_xml

RHYTHM = waveform_xml("Rhythm", np.random.default_rng(0).integers(-900, 900, (8, 5000)).astype(np.int16))


def export(*statements, confirmed=(), patient="77123456", site="A", head="", rhythm=""):
    def section(name, texts):
        made = (text if text.startswith("<") else f"<StmtText>{text}</StmtText>" for text in texts)
        body = "".join(f"<DiagnosisStatement>{text}</DiagnosisStatement>" for text in made)
        return f"<{name}><Modality>RESTING</Modality>{body}</{name}>"

    return (
        f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{head}<RestingECG><PatientDemographics><PatientID>{patient}'
        f"</PatientID></PatientDemographics><TestDemographics><SiteName>{site}</SiteName></TestDemographics>"
        f"{section('Diagnosis', confirmed)}{section('OriginalDiagnosis', statements)}{rhythm}</RestingECG>"
    )


def write(folder, **exports):
    folder.mkdir(exist_ok=True)
    for name, text in exports.items():
        (folder / f"{name}.xml").write_text(text, encoding="iso-8859-1")
    return folder


def read(folder):
    skipped = Counter()
    files = [(path.name, path) for path in sorted(folder.iterdir())]
    return list(muse_statements(folder, files, skipped)), skipped


def codes(folder):
    return [statement.code for statement in read(folder)[0]]


def test_the_list_is_that_of_ecgfounder():
    names = statement_names()
    assert len(names) == len({name.upper() for name in names}) == 150
    anchors = {0: "ABNORMAL ECG", 2: "NORMAL ECG", 7: "otherwise normal ecg", 79: "WITH 1ST DEGREE AV BLOCK"}
    assert {place: names[place] for place in anchors} == anchors
    assert names[149] == "MULTIFOCAL ATRIAL TACHYCARDIA"


def test_real_exports_carry_names_of_the_list(shared):
    folder = shared / "data" / "muse_xml"
    found: dict[str, list[str]] = {}
    for statement in read(folder)[0]:
        found.setdefault(statement.file, []).append(statement.code)
    assert found["introecg.xml"] == [
        "SINUS BRADYCARDIA",
        "WITH SINUS ARRHYTHMIA",
        "WITH 1ST DEGREE AV BLOCK",
        "otherwise normal ecg",
    ]
    assert "WIDE QRS RHYTHM" in found["muse_ecg1.xml"]
    assert {code for of_file in found.values() for code in of_file} <= set(statement_names())


def test_a_name_counts_once_however_it_is_written(tmp_path):
    texts = ["Sinus  rhythm ", "\n sinus RHYTHM", "with 1st degree A-V block", "WITH 1ST DEGREE AV BLOCK"]
    assert codes(write(tmp_path / "drop", a=export(*texts))) == ["SINUS RHYTHM", "WITH 1ST DEGREE AV BLOCK"]


def test_only_the_carts_own_words_count(tmp_path):
    inserted = "<StmtFlag>ENDSLINE</StmtFlag><StmtFlag>USERINSERT</StmtFlag><StmtText>Atrial fibrillation</StmtText>"
    text = export("Sinus rhythm", inserted, confirmed=["Atrial flutter"])
    assert codes(write(tmp_path / "drop", a=text)) == ["SINUS RHYTHM"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="latin-1", exclude_characters="<>&", exclude_categories=["Cc"]), max_size=40))
)
def test_a_text_outside_the_list_is_never_passed_on(tmp_path_factory, texts):
    folder = write(tmp_path_factory.mktemp("drop") / "drop", a=export(*(f"Discussed with {text}" for text in texts)))
    assert codes(folder) == []


def test_files_that_cannot_be_read_are_counted_and_end_nothing(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    folder = write(
        tmp_path / "drop",
        a=export("Sinus rhythm"),
        b=export("Sinus rhythm", head=bomb),
        c="no XML",
        d="",
        e="<Other/>",
    )
    (tmp_path / "outside.xml").write_text(export("Sinus rhythm"))
    (folder / "f.xml").symlink_to(tmp_path / "outside.xml")
    found, skipped = read(folder)
    assert [statement.file for statement in found] == ["a.xml"]
    assert skipped == {"export that cannot be read": 5}


@pytest.mark.parametrize("patients", ["private", "synthetic"])
def test_labels_of_a_site_are_of_its_own_ecgs_and_name_nobody(tmp_path, patients):
    folder = write(
        tmp_path / "drop",
        a=export("Sinus rhythm", "Discussed with PLANTED", rhythm=RHYTHM),
        b=export("Atrial fibrillation", site="B"),
    )
    drop = DropFolder("here", folder, "muse_xml", ("A",), "here", patients=patients)
    key, listing = fixed_key("test"), list_files(drop)
    store = ingest_site(drop, listing, recipe=IngestRecipe(), key=key, out=tmp_path / "store")
    made = collect_labels(drop, listing, key=key, out=tmp_path / "labels")
    rows = made.labels().select("ecg_id", "patient", "system", "code", "value").rows()
    assert rows == [(*store.ecgs().select("ecg_id", "patient").row(0), "muse", "SINUS RHYTHM", 1.0)]
    assert made.skipped() == {"statement of an ECG of another site": 1}
    assert not any(b"PLANTED" in path.read_bytes() for path in (tmp_path / "labels").iterdir())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_damage_ends_anything_or_lets_a_text_through(data, tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("x") / "drop", a=export("Sinus rhythm", "Seen by PLANTED"))
    content = bytearray((folder / "a.xml").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.xml").write_bytes(content)
    assert set(codes(folder)) <= set(statement_names())
