"""The texts of a site: whose they are, who has none, and no person in them."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.ingest.drop_folder import DropFolder, UnsettledError, list_files
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.ingest.withdrawals import Withdrawals, register_entry
from ecg_pipeline.synthetic.drop_folders import TYPED
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline.texts.private import SHARED_BY, without_identities, without_rare_words
from ecg_pipeline.texts.site_texts import collect_texts, training_texts
from ecg_pipeline_tests.ingest.formats.test_muse_statements import export, write

KEY = fixed_key("test")


def collect(drop, out):
    return collect_texts(drop, list_files(drop), key=KEY, out=out)


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospitals") / "system"
    return folder, write_hospital_system(HospitalSystem(patients=120, ecgs=180, seed=1), folder)


@pytest.mark.parametrize("patients", ["private", "synthetic"])
def test_texts_of_a_hospital_name_nobody_and_have_nothing_that_was_typed(hospitals, tmp_path, patients):
    folder, planted = hospitals
    exports = b"".join(path.read_bytes() for path in (folder / "mount_sinai").glob("*.xml"))
    assert TYPED.encode() in exports
    assert b"Discussed with" in exports
    drop = DropFolder("s", folder / "mount_sinai", "muse_xml", mrn_system="system", patients=patients)
    made = collect(drop, tmp_path / "texts")
    table = made.texts()
    assert set(table["language"]) == {"en"}
    assert table["ecg_id"].is_unique().all()
    said = {word for text in table["text"] for word in text.replace("/", " ").replace(".", " ").split()}
    assert {"normal", "sinus", "rhythm"} <= said
    assert not {name.lower() for name in planted.identities} & said
    assert TYPED not in said
    store = ingest_site(drop, list_files(drop), recipe=IngestRecipe(), key=KEY, out=tmp_path / "store")
    both = store.ecgs().join(table, on="ecg_id")
    assert len(both) > 0.9 * len(store.ecgs())
    assert both["patient"].equals(both["patient_right"], null_equal=True)


def test_reports_of_the_public_data_set_agree_with_what_was_planted(hospitals, tmp_path):
    folder, planted = hospitals
    drop = DropFolder("p", folder / "ptb_xl_like", "ptb_xl", patients="public")
    made = collect(drop, tmp_path / "texts")
    store = ingest_site(drop, list_files(drop), recipe=IngestRecipe(), key=KEY, out=tmp_path / "store")
    table = store.ecgs().join(made.texts(), on="ecg_id")
    assert set(table["language"]) == {"en", "de"}
    for name, text in table.select("source", "text").iter_rows():
        is_sick = planted.sites["ptb_xl_like"].ecgs[name].disease != "none"
        assert ("st-hebung" in text or "injury" in text) == is_sick, text
        assert "edit:" not in text
        assert "unbestätigt" not in text
    assert made.skipped()["ECG without a text"] >= 1


def test_who_withdrew_has_no_text_and_who_has_none_is_counted(tmp_path):
    folder = write(
        tmp_path / "drop",
        a=export("Sinus rhythm"),
        b=export("Atrial fibrillation", patient="88123456"),
        c=export("Statement Text(22)"),
        d=export("Sinus rhythm", site="B"),
        e=export(),
        f="no XML",
    )
    gone = register_entry(KEY, KEY.pseudonym("here", "88123456"))
    withdrawals = Withdrawals(frozenset([gone]), frozenset([gone]))
    drop = DropFolder("s", folder, "muse_xml", ("A",), "here", patients="public", withdrawals=withdrawals)
    made = collect(drop, tmp_path / "out")
    assert made.texts().select("text", "source").rows() == [("sinus rhythm", "cart")]
    assert made.skipped() == {
        "ECG without a text": 2,
        "export that cannot be read": 1,
        "row of a patient who withdrew": 1,
        "text of an ECG of another site": 1,
    }


def test_a_format_without_texts_has_none_and_a_table_that_is_written_is_waited_for(tmp_path):
    (tmp_path / "drop").mkdir()
    assert collect(DropFolder("c", tmp_path / "drop", "cinc"), tmp_path / "out").texts().is_empty()
    (tmp_path / "drop" / "record_list.csv").write_text("subject_id,study_id,path\n")
    (tmp_path / "drop" / "machine_measurements.csv").write_text("subject_id,study_id,report_0\n")
    drop = DropFolder("m", tmp_path / "drop", "mimic_iv_ecg")
    assert collect(drop, tmp_path / "out").texts().is_empty()
    with pytest.raises(UnsettledError, match=r"record_list.csv is still being written"):
        collect_texts(drop, list_files(drop).clear(), key=KEY, out=tmp_path / "out")


def test_identities_of_the_own_file_are_struck_but_no_single_letter():
    text = "t wave changes, known to dr. smith-jones (4711) & anna"
    assert without_identities(text, ["SMITH-JONES", "Anna T", "4711"]) == "t wave changes, known to dr. &"


WORDS = ("normal", "ecg", "wave", "smith", "jones", "4711", "av-block")
SAID = st.lists(
    st.tuples(
        st.lists(st.sampled_from(WORDS), min_size=1).map(" ".join),
        st.none() | st.sampled_from([f"p{number}" for number in range(8)]),
    )
)


@given(SAID)
def test_a_word_is_left_at_a_private_site_only_if_enough_patients_share_it(given_texts):
    said, patients = [text for text, _ in given_texts], [patient for _, patient in given_texts]
    left = without_rare_words(said, patients)
    assert len(left) == len(said)
    for word in ("normal", "smith", "4711", "block"):
        holders = {patient for text, patient in given_texts if patient and word in text.replace("-", " ").split()}
        still = [word in one.replace("-", " ").split() for one in left]
        had = [word in one.replace("-", " ").split() for one in said]
        assert still == (had if len(holders) >= SHARED_BY else [False] * len(said))


def test_training_texts_are_of_the_training_set_alone(tmp_path):
    folder = write(tmp_path / "drop", a=export("Sinus rhythm"), b=export("Atrial flutter"))
    made = collect(DropFolder("s", folder, "muse_xml", patients="public"), tmp_path / "out")
    chosen = made.texts().filter(pl.col("text") == "atrial flutter")
    assert training_texts([made], chosen).rows() == [(chosen["ecg_id"][0], "atrial flutter", "en")]
    assert json.loads((tmp_path / "out" / "skipped.json").read_text()) == {}
