"""HDF5 files that lead elsewhere, or are damaged: nothing else is opened, and nothing but a reject comes of them."""

import random
from contextlib import suppress

import h5py
import numpy as np
import pytest

from ecg_pipeline.ingest.formats.sph import read_sph
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline_tests.ingest.conftest import read, reason_of, write_csv

SAMPLES = np.random.default_rng(0).normal(size=(12, 3000)).astype(np.float16)


@pytest.fixture
def path(tmp_path):
    """Where an ECG of SPH should be; a whole one is outside its folder."""
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["ecg"] = SAMPLES
    write_csv(tmp_path / "drop" / "metadata.csv", [{"ECG_ID": "a", "AHA_Code": "1", "Patient_ID": "p"}])
    return tmp_path / "drop" / "a.h5"


def external_link(file, outside):
    file["ecg"] = h5py.ExternalLink(str(outside), "/ecg")


def soft_link_to_an_external_one(file, outside):
    file["there"] = h5py.ExternalLink(str(outside), "/")
    file["ecg"] = h5py.SoftLink("/there/ecg")


def samples_elsewhere(file, outside):
    raw = outside.with_suffix(".raw")
    SAMPLES.tofile(raw)
    file.create_dataset("ecg", SAMPLES.shape, SAMPLES.dtype, external=[(str(raw), 0, SAMPLES.nbytes)])


def put_together_from_others(file, outside):
    layout = h5py.VirtualLayout(SAMPLES.shape, SAMPLES.dtype)
    layout[:] = h5py.VirtualSource(str(outside), "ecg", SAMPLES.shape)
    file.create_virtual_dataset("ecg", layout)


@pytest.mark.parametrize(
    "leads_away", [external_link, soft_link_to_an_external_one, samples_elsewhere, put_together_from_others]
)
def test_no_other_file_is_read(path, tmp_path, leads_away):
    with h5py.File(path, "w") as file:
        leads_away(file, tmp_path / "outside.h5")
    assert reason_of(read_sph, path) == RejectReason.OUTSIDE_FOLDER
    # What is not opened need not be there.
    for other in tmp_path.glob("outside.*"):
        other.unlink()
    assert reason_of(read_sph, path) == RejectReason.OUTSIDE_FOLDER


def test_a_filter_that_would_be_a_plugin_is_refused(path):
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((12, 3000))
        # Optional (1), so that the library writes the data set without having the filter.
        properties.set_filter(32015, 1, (3,))
        h5py.h5d.create(file.id, b"ecg", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((12, 3000)), properties)
    assert reason_of(read_sph, path) == RejectReason.UNREADABLE


def test_every_other_way_to_be_refused(path):
    def refused(**datasets):
        with h5py.File(path, "w") as file:
            for name, options in datasets.items():
                file.create_dataset(name, **options) if isinstance(options, dict) else file.create_group(name)
        return reason_of(read_sph, path)

    assert refused(other={"data": SAMPLES}) == RejectReason.NOT_AN_ECG
    assert refused(ecg=None) == RejectReason.NOT_AN_ECG
    assert refused(ecg={"data": SAMPLES[0]}) == RejectReason.NOT_AN_ECG
    assert refused(ecg={"data": [["a text"]]}) == RejectReason.NOT_AN_ECG
    assert refused(ecg={"data": SAMPLES[:8]}) == RejectReason.MISSING_LEADS
    assert refused(ecg={"shape": (12, 2**40), "dtype": "f8", "chunks": (1, 1000)}) == RejectReason.TOO_LARGE
    assert refused(ecg={"shape": (12, 4000), "dtype": "f4", "maxshape": (12, None), "chunks": (12, 2**24)}) == (
        RejectReason.TOO_LARGE
    )
    assert refused(ecg={"data": np.where(SAMPLES > 3, np.nan, SAMPLES)}) == RejectReason.NOT_FINITE
    assert refused(ecg={"data": SAMPLES.astype(np.float64) * 1e300}) == RejectReason.BAD_CALIBRATION
    path.write_text("no HDF5")
    assert reason_of(read_sph, path) == RejectReason.NOT_AN_ECG


def test_no_damage_is_ever_more_than_a_reject(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("ecg", data=SAMPLES, chunks=(3, 750), compression="gzip", shuffle=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert reason_of(read_sph, path) == RejectReason.UNREADABLE
    for seed in range(150):
        chance, content = random.Random(seed), bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            content[chance.randrange(chance.choice([600, 4000, len(content)]))] = chance.randrange(256)
        path.write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
        with suppress(Rejected):
            read(read_sph, path)
