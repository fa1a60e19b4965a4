"""Texts as the formats' own files have them: what belongs to which ECG, and nothing that a person typed."""

from collections import Counter

import pytest

from ecg_pipeline.ingest.formats.mimic_iv_ecg import mimic_texts
from ecg_pipeline.ingest.formats.muse_texts import muse_texts
from ecg_pipeline.ingest.formats.ptb_xl import ptb_xl_texts
from ecg_pipeline_tests.ingest.formats.test_muse_statements import export, write


def read(reader, folder, names=None):
    skipped = Counter()
    files = [(name, folder / name) for name in names or sorted(path.name for path in folder.iterdir())]
    return {found.file: found for found in reader(folder, files, skipped)}, skipped


def test_real_exports_give_the_carts_lines(shared):
    found, _ = read(muse_texts, shared / "data" / "muse_xml")
    assert found["introecg.xml"].text == (
        "Sinus bradycardia with sinus arrhythmia with 1st degree A-V block Otherwise normal ECG"
    )
    assert found["muse-sinus.xml"].text.startswith("Normal Sinus rhythm Anterior infarct , age undetermined T wave")
    assert found["muse_ecg1.xml"].text.startswith("Wide QRS rhythm Left axis deviation")
    assert "paced" not in found["muse_ecg1.xml"].text, "a person inserted it"
    assert found["braveheart_1.xml"].text == ""


def test_identities_of_an_export_are_those_of_everybody_in_it(shared):
    found, _ = read(muse_texts, shared / "data" / "muse_xml")
    identities = found["introecg.xml"].identities
    planted = {
        "PLANTEDPATIENTLASTNAME07",
        "PLANTEDPATIENTFIRSTNAME07",
        "PLANTEDOVERREADERLASTNAME07",
        "PLANTEDATTENDINGMDFIRSTNAME07",
        "PLANTEDPLACERSLASTNAME",
        "77070900866",
        "77071601562",
        "02-29-1940",
    }
    assert planted <= set(identities)
    assert not {"NORMAL", "MALE", "RESTING", "CEDARS-SINAI MEDICAL CENTER", "Pain, unspecified"} & set(identities)


def test_what_a_person_inserted_is_not_read_wherever_its_flag_stands(tmp_path):
    typed = (
        "<StmtFlag>USERINSERT</StmtFlag><StmtText>typed one</StmtText>",
        "<StmtFlag>ENDSLINE</StmtFlag><StmtFlag> userinsert</StmtFlag><StmtText>typed two</StmtText>",
        "<StmtText>typed three</StmtText><StmtFlag>USERINSERT</StmtFlag>",
    )
    folder = write(tmp_path / "drop", a=export("Sinus rhythm", *typed, confirmed=["typed four"]))
    found, skipped = read(muse_texts, folder)
    assert found["a.xml"].text == "Sinus rhythm"
    assert not skipped


PTB_XL = 'filename_hr,patient_id,scp_codes,report\na,1.0,{},"sinus rhythm.\nnormal"\nb,,{},\nc,3.0,{}\n'


def test_ptb_xl_texts_are_the_column_report(tmp_path):
    (tmp_path / "ptbxl_database.csv").write_text(PTB_XL)
    found, _ = read(ptb_xl_texts, tmp_path)
    assert {name: one.text for name, one in found.items()} == {
        "a.hea": "sinus rhythm.\nnormal",
        "b.hea": "",
        "c.hea": "",
    }


@pytest.fixture
def mimic(tmp_path):
    """Two records, and a table whose rows are in another order, with one of a study that is not there."""
    rows = [
        "subject_id,study_id,cart_id,report_0,report_1,report_2,report_17,bandwidth",
        "10000032,90000009,1,of nobody,,,,x",
        "10000033,40000002,1,Sinus rhythm,,Normal ECG,,x",
        "10000032,40000001,1,Atrial fibrillation, Abnormal ECG ,,last,x",
    ]
    (tmp_path / "machine_measurements.csv").write_text("\n".join(rows) + "\n")
    return tmp_path, ["p1000/p10000032/s40000001/40000001.hea", "p1000/p10000033/s40000002/40000002.hea"]


def test_mimic_texts_belong_to_their_study_and_not_to_their_row(mimic):
    folder, names = mimic
    found, skipped = read(mimic_texts, folder, names)
    assert [found[name].text for name in names] == ["Atrial fibrillation Abnormal ECG last", "Sinus rhythm Normal ECG"]
    assert [found[name].patient_id for name in names] == ["10000032", "10000033"]
    assert not +skipped


def test_mimic_studies_with_several_texts_have_none_and_a_missing_table_is_named(mimic):
    folder, names = mimic
    with (folder / "machine_measurements.csv").open("a") as file:
        file.write("10000032,40000001,1,Something else,,,,x\n10000033,40000002,1,Sinus rhythm,,Normal ECG,,x\n")
    found, skipped = read(mimic_texts, folder, names)
    assert [found[name].text for name in names] == ["", "Sinus rhythm Normal ECG"]
    assert skipped == {"study with several texts": 1}
    (folder / "machine_measurements.csv").write_text("subject_id,text\n")
    with pytest.raises(ValueError, match="no column study_id, report_0"):
        read(mimic_texts, folder, names)
    (folder / "machine_measurements.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"machine_measurements\.csv"):
        read(mimic_texts, folder, names)
