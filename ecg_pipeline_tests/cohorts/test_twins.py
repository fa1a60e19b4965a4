"""One recording in two data sets: twenty records of the CinC challenges that are PTB-XL's too."""

import shutil
import subprocess
import sys

import polars as pl
import pytest

from ecg_pipeline.cohorts import leaks
from ecg_pipeline.cohorts.cohort import SiteEcgs, assemble_cohort
from ecg_pipeline.cohorts.pretraining_set import pretraining_set
from ecg_pipeline.cohorts.splits import SplitRecipe, assign_splits
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.labels import collect_labels
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.study import load_study, study_file

STUDY = "ptb_xl_small"
SPLIT = SplitRecipe(kind="patient_hash", test=0.3, validation=0.15)
TASK = "myocardial_infarction"
AT_PTB_XLS_GAIN = {"HR09589", "HR19293"}
"""The headers of the other eighteen state 200/mV for the same counts, PTB-XL's 1,000/mV."""


def read_site(name, folder, out):
    drop, key = DropFolder(name, folder, name, mrn_system=name, patients="public"), fixed_key("public")
    listing = list_files(drop)
    store = ingest_site(drop, listing, recipe=IngestRecipe(), key=key, out=out / "store", workers=2)
    return SiteEcgs(store.ecgs(), collect_labels(drop, listing, key=key, out=out / "labels").labels())


@pytest.fixture(scope="module")
def sites(shared, tmp_path_factory):
    """PTB-XL's 2,090 records, and the challenge records of the same hospital, as two sites."""
    folder = tmp_path_factory.mktemp("sites")
    for data_set in "ab":
        for path in (shared / "data" / "cinc" / data_set).glob("HR*"):
            (folder / "cinc").mkdir(exist_ok=True)
            shutil.copy(path, folder / "cinc")
    unpack = [sys.executable, shared / "data" / "unpack_ptbxl.py", folder / "ptb_xl"]
    subprocess.run(unpack, check=True, stdout=subprocess.DEVNULL)
    yield {name: read_site(name, folder / name, folder / "out" / name) for name in ("ptb_xl", "cinc")}
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def twins(sites):
    """One row for each pair by name, HR00013 and 00013_hr: the challenge's columns, and PTB-XL's as `*_ptb_xl`."""
    number = pl.col("source").str.extract(r"(\d+)(?:_hr)?\.hea$").cast(pl.Int32)
    ptb_xl, cinc = (
        sites[name].ecgs.with_columns(number=number, split=assign_splits(sites[name].ecgs, SPLIT))
        for name in ("ptb_xl", "cinc")
    )
    return cinc.join(ptb_xl, on="number", suffix="_ptb_xl")


@pytest.fixture(scope="module")
def study():
    study = load_study(study_file(STUDY))
    assert study.split == SPLIT
    return study


def cohort_of(study, sites, pretraining, out):
    """The cohort of PTB-XL when the sites `pretraining` are pretrained on, and their pool."""
    pool = pretraining_set((sites[name].ecgs for name in pretraining), SPLIT)
    cohort = assemble_cohort(
        study.tasks[TASK], split=SPLIT, sites=sites, pretrained_on=pool, out=out / "-".join(pretraining)
    )
    return cohort, pool


def test_every_record_that_is_in_both_data_sets_is_found_by_its_waveform(sites, twins):
    ptb_xl, cinc = sites["ptb_xl"].ecgs, sites["cinc"].ecgs
    assert (len(ptb_xl), len(cinc), len(twins)) == (2090, 70, 20)
    found = cinc.join(ptb_xl, on="waveform_sha256", suffix="_ptb_xl")
    assert sorted(found.select("ecg_id", "ecg_id_ptb_xl").rows()) == sorted(
        twins.select("ecg_id", "ecg_id_ptb_xl").rows()
    )
    scales = twins.select(pl.col("source").str.strip_suffix(".hea"), pl.col("^microvolts_per_count.*$").list.unique())
    for record, stated, of_ptb_xl in scales.iter_rows():
        assert (stated, of_ptb_xl) == ([1.0 if record in AT_PTB_XLS_GAIN else 5.0], [1.0])


def test_no_ecg_is_pretrained_on_whose_twin_validates_or_tests(study, sites, twins, tmp_path):
    trains, trains_at_ptb_xl = pl.col("split") == "train", pl.col("split_ptb_xl") == "train"
    assert twins.filter(trains & ~trains_at_ptb_xl).height > 0
    assert twins.filter(~trains & trains_at_ptb_xl).height > 0
    cohort, pool = cohort_of(study, sites, ("ptb_xl", "cinc"), tmp_path)
    pretrained_on = pl.col("ecg_id").is_in(pool["ecg_id"].to_list())
    pretrained_on_at_ptb_xl = pl.col("ecg_id_ptb_xl").is_in(pool["ecg_id"].to_list())
    assert twins.filter(pretrained_on != (trains & trains_at_ptb_xl)).is_empty()
    assert twins.filter(pretrained_on_at_ptb_xl != (trains & trains_at_ptb_xl)).is_empty()
    held_out = cohort.table().filter(pl.col("split") != "train")
    assert leaks.seen_before(held_out, seen=pool, by="pretraining") == []


def test_no_tested_ecg_is_lost_to_a_twin_that_would_be_pretrained_on(study, sites, twins, tmp_path):
    alone, _ = cohort_of(study, sites, ("ptb_xl",), tmp_path)
    both, _ = cohort_of(study, sites, ("ptb_xl", "cinc"), tmp_path)
    assert both.table().equals(alone.table())
    assert both.flow() == alone.flow()
    tested = both.test_internal()
    assert (len(tested), tested["patient"].n_unique(), tested["label"].sum()) == (615, 534, 152)
    in_jeopardy = twins.filter((pl.col("split") == "train") & (pl.col("split_ptb_xl") == "test"))
    assert len(in_jeopardy) > 0
    assert set(in_jeopardy["ecg_id_ptb_xl"]) <= set(tested["ecg_id"])
