"""A toy hospital system: three hospitals that drop GE MUSE exports, and a public data set in PTB-XL's layout.

Its patients are invented and their diseases known, so that the whole pipeline can be run and tested without hospital
data: outputs are compared with what was simulated. Results on it say nothing about medicine.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ecg_pipeline.storage.files import read_json, write_json
from ecg_pipeline.synthetic.drop_folders import EXPORTERS, SiteTruth, write_muse_site, write_ptb_xl_site
from ecg_pipeline.synthetic.people import Case, sample_cases, sample_names
from ecg_pipeline.synthetic.waves import Disease

REVISION = 3
"""Bumped by hand when this module's results change."""

SITES = ("mount_sinai", "beth_israel", "morningside", "ptb_xl_like")
SITE_SHARES = (380 / 1200, 300 / 1200, 220 / 1200, 300 / 1200)
"""Of the ECGs and of the patients."""

SHARED_SHARE = 12 / 700
"""Share of all patients who live at Mount Sinai and are seen at a second hospital too."""

HOSPITAL_DISEASES: Mapping[Disease, float] = {"low_ef": 0.25, "hcm": 0.30}
PTB_XL_DISEASES: Mapping[Disease, float] = {"anterior_stemi": 0.14, "inferior_stemi": 0.11}


@dataclass(frozen=True)
class HospitalSystem:
    """How many patients and usable ECGs the four sites hold together, and the seed of everything sampled."""

    patients: int = 700
    ecgs: int = 1200
    seed: int = 0

    def __post_init__(self) -> None:
        if not 40 <= self.patients <= 10_000:
            raise ValueError(f"a hospital system has 40 to 10,000 patients, not {self.patients}")
        if self.ecgs < 1.2 * self.patients:
            raise ValueError(f"{self.patients} patients need {1.2 * self.patients:.0f} ECGs or more, not {self.ecgs}")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} must not be negative")


@dataclass(frozen=True)
class Planted:
    """Ground truth of a hospital system, for tests to compare with outputs.

    sites: by site, the numbers of usable ECGs and of rejects by reason. shared_patients: seen at two hospitals.
    identities: every name, patient number and birth date written into the exports, of patients and of physicians: none
    may appear in any output.
    """

    sites: Mapping[str, SiteTruth]
    shared_patients: int
    identities: tuple[str, ...]


def write_hospital_system(system: HospitalSystem, folder: Path) -> Planted:
    """Write the four sites below `folder`, the same bytes for the same recipe, and `planted.json` beside them.

    A finished folder of the same recipe is left alone, one of another is replaced. A folder that holds anything else
    is a FileExistsError.
    """
    recipe = {**asdict(system), "revision": REVISION}
    truth_file = folder / "planted.json"
    if truth_file.exists() and read_json(truth_file)["recipe"] == recipe:
        return read_planted(folder)
    if folder.exists() and any(folder.iterdir()) and not truth_file.exists():
        raise FileExistsError(f"{folder} holds files that are not a synthetic hospital system: choose another folder")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    planted = _write(system, partial)
    write_json(partial / "planted.json", {"recipe": recipe, **asdict(planted)})
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return planted


def read_planted(folder: Path) -> Planted:
    """Ground truth of a finished folder."""
    content = read_json(folder / "planted.json")
    return Planted(
        sites={site: SiteTruth.from_json(truth) for site, truth in content["sites"].items()},
        shared_patients=content["shared_patients"],
        identities=tuple(content["identities"]),
    )


def _write(system: HospitalSystem, folder: Path) -> Planted:
    patients, ecgs = _portions(system.patients), _portions(system.ecgs)
    names = sample_names(system.patients, np.random.default_rng((system.seed, 0)))
    residents: dict[str, list[Case]] = {}
    for number, site in enumerate(SITES):
        diseases = PTB_XL_DISEASES if site == "ptb_xl_like" else HOSPITAL_DISEASES
        own, names = names[: patients[site]], names[patients[site] :]
        residents[site] = sample_cases(own, diseases, np.random.default_rng((system.seed, 1, number)))
    shared = residents["mount_sinai"][: max(2, round(SHARED_SHARE * system.patients))]
    seen = {
        **residents,
        "beth_israel": [*residents["beth_israel"], *shared[::2]],
        "morningside": [*residents["morningside"], *shared[1::2]],
    }
    truths = {}
    for number, site in enumerate(SITES):
        rng = np.random.default_rng((system.seed, 2, number))
        if site == "ptb_xl_like":
            truths[site] = write_ptb_xl_site(seen[site], ecgs=ecgs[site], folder=folder / site, rng=rng)
        else:
            truths[site] = write_muse_site(
                seen[site], ecgs=ecgs[site], exporter=EXPORTERS[site], folder=folder / site, rng=rng
            )
    patients_of_hospitals = [case.patient for site in EXPORTERS for case in residents[site]]
    identities = {
        word for who in patients_of_hospitals for word in (who.mrn, who.last_name, who.first_name, who.birth_date)
    }
    identities |= {name for exporter in EXPORTERS.values() for name in exporter.physician}
    return Planted(truths, len(shared), tuple(sorted(identities)))


def _portions(total: int) -> dict[str, int]:
    """A total divided among the sites by their shares, without remainder."""
    ends = np.rint(np.cumsum(SITE_SHARES) * total).astype(int)
    return dict(zip(SITES, np.diff(ends, prepend=0).tolist(), strict=True))
