"""Invented patients: who they are, what they have, how sick they are, and when they come.

About one label in forty contradicts the ECG (a sick patient with a normal ECG, a healthy one with a sick ECG), as echo
and ECG do contradict each other, so that no model can be perfect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from ecg_pipeline.synthetic.heart import Person, sample_person
from ecg_pipeline.synthetic.muse import Patient
from ecg_pipeline.synthetic.waves import Disease

LABEL_NOISE = 0.025
"""Share of patients whose ECG shows the opposite of what they have."""

CHRONIC_SEVERITY, ACUTE_SEVERITY = (2.0, 1.6), (4.0, 1.8)
"""Beta distributions of how much of a disease's changes a patient shows: infarctions that are seen are plain."""

LATEST_YEAR = 2021

_AGES: dict[Disease, tuple[float, float]] = {
    "none": (56, 17),
    "low_ef": (66, 12),
    "hcm": (53, 15),
    "anterior_stemi": (62, 12),
    "inferior_stemi": (62, 12),
}
"""Mean and standard deviation (years)."""

_SYLLABLES = "ZOR VEK QUIL THAN MIR DRAX POL GHEN JUV KASH LUM WEX BRO FYN HOX NYD RUZ SKEL TORV UPP YAK CEB DWIN OZ"


@dataclass(frozen=True, eq=False)
class Case:
    """A patient with ground truth: `disease` is in the labels, `shown` in the ECG.

    severity: 0 to 1, how much of its changes. first_visit: of the first ECG at the hospital where the patient lives.
    """

    patient: Patient
    person: Person
    disease: Disease
    shown: Disease
    severity: float
    born: datetime
    first_visit: datetime


@dataclass(frozen=True, eq=False)
class Visit:
    """One ECG to be taken. first: the patient's first at this hospital. severity: on that day."""

    case: Case
    at: datetime
    first: bool
    severity: float

    @property
    def age_years(self) -> int:
        """Age on the day."""
        return (self.at - self.case.born).days * 4 // 1461


def sample_cases(names: Sequence[Patient], shares: Mapping[Disease, float], rng: np.random.Generator) -> list[Case]:
    """Give each of the patients a body and a disease; the shares and `LABEL_NOISE` are met but for rounding."""
    sick = [disease for disease, share in shares.items() for _ in range(round(share * len(names)))]
    healthy: list[Disease] = ["none"] * (len(names) - len(sick))
    diseases = [*sick, *healthy]
    contradicted = set(rng.choice(len(names), round(LABEL_NOISE * len(names)), replace=False).tolist())
    cases = []
    for name, place in zip(names, rng.permutation(len(names)).tolist(), strict=True):
        disease = diseases[place]
        shown = _opposite(disease, list(shares), rng) if place in contradicted else disease
        cases.append(_sample_case(name, disease, shown, rng))
    return cases


def sample_names(count: int, rng: np.random.Generator) -> list[Patient]:
    """Patients with names and patient numbers that occur nowhere else; the birth date follows with the age."""
    syllables = _SYLLABLES.split()
    base = len(syllables)
    numbers = rng.choice(base**3, count, replace=False)
    mrns = 70_000_000 + rng.choice(9_000_000, count, replace=False)
    return [
        Patient(
            mrn=str(mrn),
            last_name=syllables[number // base**2] + syllables[number // base % base] + syllables[number % base],
            first_name="".join(syllables[index] for index in rng.integers(base, size=2).tolist()),
            birth_date="",
            sex="M" if rng.random() < 0.52 else "F",
        )
        for number, mrn in zip(numbers.tolist(), mrns.tolist(), strict=True)
    ]


def sample_visits(cases: Sequence[Case], count: int, rng: np.random.Generator) -> list[Visit]:
    """`count` visits of the cases in the order of time, at least one of each."""
    extra = np.bincount(rng.integers(len(cases), size=count - len(cases)), minlength=len(cases))
    visits = []
    for case, more in zip(cases, extra, strict=True):
        days = np.cumsum([rng.integers(0, 60), *rng.exponential(150, more).astype(int) + 1])
        for number, day in enumerate(days.tolist()):
            at = case.first_visit + timedelta(days=day, seconds=int(rng.integers(86_400)))
            severity = float(np.clip(case.severity + rng.normal(0, 0.05), 0.02, 1))
            visits.append(Visit(case, at, number == 0, severity))
    return sorted(visits, key=lambda visit: visit.at)


def ejection_fraction(case: Case, rng: np.random.Generator) -> float:
    """An echo's left ventricular ejection fraction (%): 15 to 40 in low_ef, lower when sicker, else 45 to 70."""
    if case.disease == "low_ef":
        return float(np.clip(40 - 22 * case.severity + rng.normal(0, 4), 15, 40).round())
    return float(np.clip(rng.normal(60, 6), 45, 70).round())


def _opposite(disease: Disease, diseases: Sequence[Disease], rng: np.random.Generator) -> Disease:
    return "none" if disease != "none" else diseases[int(rng.integers(len(diseases)))]


def _sample_case(name: Patient, disease: Disease, shown: Disease, rng: np.random.Generator) -> Case:
    mean, deviation = _AGES[disease]
    first_visit = datetime(int(rng.integers(2012, LATEST_YEAR)), 1, 1) + timedelta(days=int(rng.integers(365)))
    age_years = np.clip(rng.normal(mean, deviation), 18, 97)
    born = datetime(first_visit.year, first_visit.month, 1) - timedelta(days=int(age_years * 365.25))
    return Case(
        patient=Patient(name.mrn, name.last_name, name.first_name, born.strftime("%m-%d-%Y"), name.sex),
        person=sample_person(rng),
        disease=disease,
        shown=shown,
        severity=float(rng.beta(*(ACUTE_SEVERITY if shown.endswith("stemi") else CHRONIC_SEVERITY))),
        born=born,
        first_visit=first_visit,
    )
