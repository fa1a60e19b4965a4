"""CODE-15: many ECGs in a file, each between zeros, with its row of the table and its labels."""

from collections import Counter

import h5py
import numpy as np
import pytest
from scipy.io import loadmat

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.formats.code15 import code15_exams, code15_statements, read_code15
from ecg_pipeline.ingest.labels import collect_labels
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline.ingest.site import ingest_site, named_rejects
from ecg_pipeline_tests.ingest.conftest import EXAM, read, reason_of, write_code15

KEY = fixed_key("test")


@pytest.fixture
def exams(shared):
    """Real exams (T, 12) without their zeros, by their identifiers."""
    files = sorted((shared / "data" / "other_formats" / "code15").glob("*.mat"))
    return {int(path.stem.rpartition("_")[2]): loadmat(path)["feats"].T for path in files}


def rounding_uv(ecg, x_mv):
    stored_uv = ecg.counts * np.array(ecg.microvolts_per_count)[:, None]
    return np.abs(stored_uv - x_mv.T.astype(np.float64) * 1000).max()


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 512, 12), "compression": "gzip"}])
def test_real_exams_come_back_within_the_error_that_is_stated(exams, tmp_path, options):
    path = write_code15(tmp_path, exams, **options)
    assert code15_exams(path) == [*map(str, exams), "0"]
    lengths = set()
    for exam, x_mv in exams.items():
        ecg = read(read_code15, path, member=str(exam))
        assert (ecg.leads, ecg.sampling_hz, ecg.counts.shape) == (LEADS, 400, (12, len(x_mv)))
        assert set(ecg.microvolts_per_count) == {1.0}
        assert rounding_uv(ecg, x_mv) <= ecg.rounding_microvolts == 0.5
        lengths.add(len(x_mv))
    assert lengths == {2934, 4096}


def test_a_lead_beyond_the_range_of_counts_is_coarser_and_says_so(exams, tmp_path):
    exam, x_mv = next(iter(exams.items()))
    x_mv[7, 5] = 65.534
    ecg = read(read_code15, write_code15(tmp_path, {exam: x_mv}), member=str(exam))
    assert [lead for lead, scale in zip(ecg.leads, ecg.microvolts_per_count, strict=True) if scale > 1] == ["aVF"]
    assert ecg.counts[5].max() == 32_767
    assert rounding_uv(ecg, x_mv) <= ecg.rounding_microvolts == pytest.approx(1.0)


def test_zeros_within_an_exam_are_part_of_it(exams, tmp_path):
    exam, x_mv = next(iter(exams.items()))
    x_mv[100:120] = 0
    assert rounding_uv(read(read_code15, write_code15(tmp_path, {exam: x_mv}), member=str(exam)), x_mv) <= 0.5


def test_an_exam_has_the_patient_and_labels_of_its_row(exams, tmp_path):
    (first, second, third), tracings = list(exams)[:3], dict(list(exams.items())[:3])
    rows = [
        {"exam_id": second, "patient_id": 12, "age": 93, "is_male": "False", "AF": "True", "RBBB": "True"},
        {"exam_id": first, "patient_id": 11},
        {"exam_id": third, "patient_id": 11, "ST": "perhaps"},
    ]
    path = write_code15(tmp_path, tracings, rows)
    ecg = read(read_code15, path, member=str(second))
    assert (ecg.patient_id, ecg.age_years, ecg.sex) == ("12", 93.0, "F")
    skipped = Counter()
    names = [(f"{path.name}#{exam}", path) for exam in code15_exams(path)]
    found = [(one.file, one.patient_id, one.code) for one in code15_statements(tmp_path, names, skipped)]
    assert found == [
        (f"{path.name}#{first}", "11", "none_of_these"),
        (f"{path.name}#{second}", "12", "RBBB"),
        (f"{path.name}#{second}", "12", "AF"),
    ]
    assert skipped == {"row whose labels cannot be read": 1, "exam without a row of the table": 1}


def test_every_exam_of_every_file_is_an_ecg_or_a_reject_with_its_name(exams, tmp_path):
    drop = DropFolder("code", tmp_path / "drop", "code15", patients="public")
    halves = dict(list(exams.items())[:5]), dict(list(exams.items())[5:])
    write_code15(drop.path, halves[0])
    write_code15(drop.path / "more", halves[1], name="exams_part1.hdf5")
    whole = (drop.path / "exams_part0.hdf5").read_bytes()
    (drop.path / "cut.hdf5").write_bytes(whole[:1000])
    (drop.path / "link.hdf5").symlink_to(tmp_path / "outside.hdf5")
    rows = [{"exam_id": exam, "patient_id": exam % 7, **EXAM, "AF": str(exam % 2 == 0)} for exam in exams]
    write_code15(tmp_path / "table", {}, rows)
    (tmp_path / "table" / "exams.csv").rename(drop.path / "exams.csv")
    listing = list_files(drop)

    def ingest(out, **options):
        return ingest_site(
            drop, listing, recipe=IngestRecipe(files_per_shard=4), key=KEY, out=tmp_path / out, **options
        )

    store = ingest("store")
    labels = collect_labels(drop, listing, key=KEY, out=tmp_path / "labels").labels()
    names = [f"exams_part0.hdf5#{exam}" for exam in halves[0]] + [f"more/exams_part1.hdf5#{exam}" for exam in halves[1]]
    assert store.ecgs()["source"].to_list() == names
    assert store.ecgs()["shard"].n_unique() == 4
    assert store.ecgs()["rounding_microvolts"].to_list() == [0.5] * 10
    assert named_rejects(drop, KEY, store).select("name", "reason").rows() == [
        ("cut.hdf5", "unreadable"),
        ("exams_part0.hdf5#0", "too_short"),
        ("link.hdf5", "outside_folder"),
        ("more/exams_part1.hdf5#0", "too_short"),
    ]
    assert set(labels["ecg_id"]) == set(store.ecgs()["ecg_id"])
    assert set(labels["patient"]) == set(store.ecgs()["patient"])
    for row in store.ecgs().iter_slices(1):
        x_mv = exams[int(row["source"][0].rpartition("#")[2])]
        assert np.abs(next(store.millivolts(row, LEADS))[1][0] - x_mv.T).max() <= 0.000501
    again = ingest("again", previous=tmp_path / "store")
    assert again.ecgs().equals(store.ecgs())


def test_every_way_for_a_file_to_be_refused(exams, tmp_path):
    exam, x_mv = next(iter(exams.items()))

    def refused(change, member=str(exam)):
        path = write_code15(tmp_path, {exam: x_mv})
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(Rejected) as rejected:
            code15_exams(path)
        assert reason_of(read_code15, path, member) == rejected.value.reason
        return rejected.value.reason

    def replaced(name, data):
        def change(file):
            del file[name]
            file[name] = data

        return change

    outside = tmp_path / "outside.hdf5"
    assert refused(replaced("exam_id", [exam, exam])) == RejectReason.NOT_AN_ECG
    assert refused(replaced("exam_id", [exam])) == RejectReason.NOT_AN_ECG
    assert refused(replaced("exam_id", [1.5, 2.5])) == RejectReason.NOT_AN_ECG
    assert refused(replaced("tracings", h5py.ExternalLink(str(outside), "/x"))) == RejectReason.OUTSIDE_FOLDER
    assert refused(replaced("tracings", np.zeros((2, 4096, 8)))) == RejectReason.MISSING_LEADS
    path = write_code15(tmp_path, {exam: x_mv})
    assert reason_of(read_code15, path, "12345") == RejectReason.NOT_AN_ECG
    assert reason_of(read_code15, path) == RejectReason.NOT_AN_ECG
