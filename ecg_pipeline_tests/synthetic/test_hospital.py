import ast
import csv
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.ingest.drop_folder import list_files, listing_version
from ecg_pipeline.ingest.labels import collect_labels
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.synthetic.drop_folders import EXPORTERS
from ecg_pipeline.synthetic.hospital import (
    HOSPITAL_DISEASES,
    PTB_XL_DISEASES,
    SITES,
    HospitalSystem,
    Planted,
    read_planted,
    write_hospital_system,
)
from ecg_pipeline.synthetic.people import LABEL_NOISE, sample_cases, sample_names, sample_visits
from ecg_pipeline_tests.synthetic.conftest import SMALL, drop_folder

KEY = fixed_key("synthetic")
INJURIES = {"INJAS", "INJAL", "INJIL", "INJLA", "INJIN"}


@pytest.fixture(scope="module")
def stores(hospital: tuple[Path, Planted], tmp_path_factory: pytest.TempPathFactory) -> dict[str, WaveformStore]:
    folder, _ = hospital
    out = tmp_path_factory.mktemp("stores")
    drops = {site: drop_folder(folder, site) for site in SITES}
    return {
        site: ingest_site(drop, list_files(drop), recipe=IngestRecipe(), key=KEY, out=out / site)
        for site, drop in drops.items()
    }


def test_what_is_ingested_is_what_was_planted(hospital: tuple[Path, Planted], stores: dict[str, WaveformStore]) -> None:
    _, planted = hospital
    for site, store in stores.items():
        truth = planted.sites[site]
        assert set(store.ecgs()["source"]) == set(truth.ecgs)
        assert store.ecgs().height == truth.usable
        assert Counter(store.rejects()["reason"]) == truth.rejects
        assert store.ecgs()["patient"].drop_nulls().n_unique() == truth.patients
    assert sum(truth.usable for truth in planted.sites.values()) == SMALL.ecgs


def test_some_patients_are_seen_at_two_hospitals(
    hospital: tuple[Path, Planted], stores: dict[str, WaveformStore]
) -> None:
    _, planted = hospital
    seen = {site: set(stores[site].ecgs()["patient"].drop_nulls()) for site in EXPORTERS}
    at_two = [seen["mount_sinai"] & seen[site] for site in ("beth_israel", "morningside")]
    assert all(at_two)
    assert len(at_two[0] | at_two[1]) == planted.shared_patients
    assert not seen["beth_israel"] & seen["morningside"]


def test_no_identity_comes_out(hospital: tuple[Path, Planted], stores: dict[str, WaveformStore]) -> None:
    folder, planted = hospital
    exports = b"".join(path.read_bytes() for path in sorted(folder.glob("*/ecg-00[0-3]?.xml")) if not path.is_symlink())
    in_exports = [word for word in planted.identities if word.encode() in exports]
    assert len(in_exports) > 0.9 * len(planted.identities)
    for store in stores.values():
        text = store.ecgs().write_json() + store.rejects().write_json()
        assert not [word for word in planted.identities if word in text]


def test_labels_say_what_was_planted(
    hospital: tuple[Path, Planted], stores: dict[str, WaveformStore], tmp_path: Path
) -> None:
    folder, planted = hospital
    for site in EXPORTERS:
        truth = planted.sites[site].ecgs
        drop = drop_folder(folder, site)
        labels = collect_labels(drop, list_files(drop), key=KEY, out=tmp_path / site).labels()
        records = stores[site].ecgs().select("patient", "source", "acquired_at").drop_nulls("patient")
        both = labels.filter(pl.col("system") != "muse").join(records, on="patient")
        assert labels["patient"].is_in(records["patient"].implode()).all()
        for code, source, value in both.select("code", "source", "value").iter_rows():
            disease = truth[source].disease
            if code == "lvef_percent":
                assert (15 <= value <= 40) if disease == "low_ef" else (45 <= value <= 70)
            else:
                assert value == (disease == "hcm")
        echoes = both.filter(pl.col("system") == "measurement")
        apart = (echoes["observed_at"] - echoes["acquired_at"]).abs()
        assert echoes.filter(apart <= pl.duration(days=15))["patient"].n_unique() == echoes["patient"].n_unique()


def test_statements_say_what_was_planted(hospital: tuple[Path, Planted]) -> None:
    folder, planted = hospital
    with (folder / "ptb_xl_like" / "ptbxl_database.csv").open(newline="") as file:
        rows = {f"{row['filename_hr']}.hea": row for row in csv.DictReader(file)}
    for name, truth in planted.sites["ptb_xl_like"].ecgs.items():
        codes = ast.literal_eval(rows[name]["scp_codes"])
        assert bool(INJURIES & set(codes)) == truth.disease.endswith("stemi")
        assert 1 <= int(rows[name]["strat_fold"]) <= 10
    folds = {(row["patient_id"], row["strat_fold"]) for row in rows.values()}
    assert len(folds) == len({patient for patient, _ in folds})


def test_same_recipe_same_bytes_other_seed_other_bytes(hospital: tuple[Path, Planted], tmp_path: Path) -> None:
    folder, planted = hospital
    assert write_hospital_system(SMALL, tmp_path / "again") == planted
    assert folder_digests(tmp_path / "again") == folder_digests(folder)
    other = HospitalSystem(SMALL.patients, SMALL.ecgs, seed=SMALL.seed + 1)
    write_hospital_system(other, tmp_path / "again")
    ours, theirs = folder_digests(folder), folder_digests(tmp_path / "again")
    assert ours["mount_sinai/ecg-0001.xml"] != theirs["mount_sinai/ecg-0001.xml"]


def test_a_finished_folder_is_left_alone(hospital: tuple[Path, Planted]) -> None:
    folder, planted = hospital
    drops = [drop_folder(folder, site) for site in SITES]
    before = [listing_version(drop, list_files(drop)) for drop in drops]
    assert write_hospital_system(SMALL, folder) == planted == read_planted(folder)
    assert [listing_version(drop, list_files(drop)) for drop in drops] == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mount_sinai").mkdir()
    with pytest.raises(FileExistsError, match="choose another folder"):
        write_hospital_system(SMALL, tmp_path)


@pytest.mark.parametrize("values", [{"patients": 10}, {"patients": 100, "ecgs": 100}, {"seed": -1}])
def test_impossible_recipes_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="not"):
        HospitalSystem(**values)


def test_prevalences_are_met_and_a_few_ecgs_contradict_their_label() -> None:
    rng = np.random.default_rng(0)
    for shares in (HOSPITAL_DISEASES, PTB_XL_DISEASES):
        cases = sample_cases(sample_names(1000, rng), shares, rng)
        counts = Counter(case.disease for case in cases)
        assert all(counts[disease] == round(1000 * share) for disease, share in shares.items())
        assert sum(case.shown != case.disease for case in cases) == round(1000 * LABEL_NOISE)
    assert HOSPITAL_DISEASES["low_ef"] == 0.25
    assert HOSPITAL_DISEASES["hcm"] == 0.30
    assert sum(PTB_XL_DISEASES.values()) == 0.25


def test_names_and_numbers_are_unique() -> None:
    names = sample_names(2000, np.random.default_rng(0))
    assert len({name.mrn for name in names}) == len({name.last_name for name in names}) == 2000
    assert all(len(name.mrn) == 8 and name.mrn.isdigit() for name in names)


def test_every_case_comes_and_returning_ones_come_later() -> None:
    rng = np.random.default_rng(0)
    cases = sample_cases(sample_names(50, rng), HOSPITAL_DISEASES, rng)
    visits = sample_visits(cases, 90, rng)
    assert len(visits) == 90
    assert len({id(visit.case) for visit in visits}) == 50
    assert visits == sorted(visits, key=lambda visit: visit.at)
    assert sum(visit.first for visit in visits) == 50
