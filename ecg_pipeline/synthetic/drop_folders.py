"""Writes one site's drop folder: its ECGs, faulty files, and its labels."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.synthetic.faults import MUSE_FAULTS, WFDB_FAULTS
from ecg_pipeline.synthetic.heart import Heart, Measurements, measure, median_beat, sample_heart, simulate
from ecg_pipeline.synthetic.muse import Exporter, MuseEcg, muse_xml, to_counts
from ecg_pipeline.synthetic.noise import simulate_noise
from ecg_pipeline.synthetic.people import Case, Visit, ejection_fraction, sample_visits
from ecg_pipeline.synthetic.wfdb_files import twelve_leads, write_wfdb

EXPORTERS: Mapping[str, Exporter] = {
    "mount_sinai": Exporter(1, "MOUNT SINAI HOSPITAL", "9.0.9.18167", "MAC55", ("QUANDRELLY", "IXEN")),
    "beth_israel": Exporter(
        4, "BETH ISRAEL MEDICAL CENTER", "8.0.2.10132", "MAC5K", ("VIXMOREAU", "OZBERT"), True, True
    ),
    "morningside": Exporter(7, "ST.LUKE'S-ROOSEVELT HOSPITAL (S)", "9.0.10.18530", "MV360", ("ZEBBERLING", "JUXLEY")),
}
"""The hospitals, by site."""

MASKED_SHARE = 0.015
"""Share of the ECGs without a usable identifier; a patient's first ECG always has one."""

_MASKED_IDS = (None, "", "XXXXXXXX", "00000000", "UNKNOWN")

SHORT_SHARE, SLOW_SHARE = 0.05, 0.06
"""Share of the exports of 5 s instead of 10 s, and of those at 250 Hz instead of 500 Hz."""

ECHO_SHARE, SCREENED_SHARE = 0.9, 0.9
"""Share of the patients with an echo, and of those with a diagnosis of hypertrophic cardiomyopathy, yes or no."""

DISEASE_STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "low_ef": ("Nonspecific intraventricular conduction delay",),
    "hcm": ("Left ventricular hypertrophy", "with repolarization abnormality"),
}
VARIANT_STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "usual": (),
    "early_repolarisation": ("Early repolarization",),
    "high_voltage": ("Voltage criteria for left ventricular hypertrophy",),
    "right_bundle_delay": ("Incomplete right bundle branch block",),
    "flat_t": ("Nonspecific T wave abnormality",),
}
"""What a GE cart prints about a disease that is plain, and about a variant; each text is a statement of its own."""

SCP_DESCRIPTIONS = {
    "NORM": ("normal ECG", "NORM", "NORM"),
    "IMI": ("inferior myocardial infarction", "MI", "IMI"),
    "LVH": ("left ventricular hypertrophy", "HYP", "LVH"),
    "IRBBB": ("incomplete right bundle branch block", "CD", "IRBBB"),
    "NDT": ("non-diagnostic T abnormalities", "STTC", "STTC"),
    "INJAS": ("subendocardial injury in anteroseptal leads", "MI", "AMI"),
    "INJAL": ("subendocardial injury in anterolateral leads", "MI", "AMI"),
    "INJIN": ("subendocardial injury in inferior leads", "MI", "IMI"),
    "INJIL": ("subendocardial injury in inferolateral leads", "MI", "IMI"),
    "INJLA": ("subendocardial injury in lateral leads", "MI", "LMI"),
    "SR": ("sinus rhythm", "", ""),
    "STACH": ("sinus tachycardia", "", ""),
    "SBRAD": ("sinus bradycardia", "", ""),
}
"""Description, diagnostic class and subclass of the statements used, as in PTB-XL; those without are rhythms."""

INJURIES = {
    "anterior_stemi": (("INJAS",), ("INJAS", "INJAL"), ("INJAL",)),
    "inferior_stemi": (("INJIN",), ("INJIL",), ("INJIN", "INJLA")),
}
HEALTHY = {
    "usual": "NORM",
    "early_repolarisation": "NORM",
    "high_voltage": "LVH",
    "right_bundle_delay": "IRBBB",
    "flat_t": "NDT",
}
"""The statement that a physician makes about a variant."""


TYPED = "quorvellosis"
"""An invented word that stands in sentences of persons, and in no other."""

GERMAN = {
    "NORM": "normales ekg",
    "IMI": "inferiorer infarkt     alter unbest.",
    "LVH": "mÄssige amplitudenkriterien fÜr linkshypertrophie",
    "IRBBB": "unvollstÄndiger rechtsschenkelblock",
    "NDT": "unspezifisches abnormales t",
    "INJAS": "st-hebung anteroseptal, frischer infarkt mÖglich",
    "INJAL": "st-hebung anterolateral, frischer infarkt mÖglich",
    "INJIN": "st-hebung inferior, frischer infarkt mÖglich",
    "INJIL": "st-hebung inferolateral, frischer infarkt mÖglich",
    "INJLA": "st-hebung lateral, frischer infarkt mÖglich",
    "SR": "sinusrhythmus",
    "STACH": "sinustachykardie",
    "SBRAD": "sinusbradykardie",
}
"""The statements in German, with the capital umlauts of PTB-XL."""


@dataclass(frozen=True)
class EcgTruth:
    """Ground truth of one usable ECG. disease: in the labels. shown: in the ECG. severity: 0 to 1."""

    disease: str
    shown: str
    severity: float


@dataclass(frozen=True)
class SiteTruth:
    """Ground truth of a site. rejects: number of files by `RejectReason`. ecgs: usable ECGs by file name."""

    usable: int
    patients: int
    rejects: Mapping[str, int]
    ecgs: Mapping[str, EcgTruth]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "SiteTruth":
        """Inverse of `dataclasses.asdict`."""
        ecgs = {name: EcgTruth(**truth) for name, truth in content["ecgs"].items()}
        return cls(**{**content, "ecgs": ecgs})


def write_muse_site(
    cases: Sequence[Case], *, ecgs: int, exporter: Exporter, folder: Path, rng: np.random.Generator
) -> SiteTruth:
    """Write a hospital's folder: `ecgs` usable exports in the order of time, faulty ones, and two label tables."""
    folder.mkdir(parents=True)
    visits = sample_visits(cases, ecgs, rng)
    returning = [number for number, visit in enumerate(visits) if not visit.first]
    masked = set(rng.choice(returning, min(len(returning), round(MASKED_SHARE * ecgs)), replace=False).tolist())
    faulty = rng.integers(ecgs, size=len(MUSE_FAULTS)).tolist()
    kept: dict[int, MuseEcg] = {}
    truths = {}
    for number, visit in enumerate(visits):
        patient_id = _MASKED_IDS[number % len(_MASKED_IDS)] if number in masked else visit.case.patient.mrn
        ecg = _simulate_muse_ecg(visit, patient_id=patient_id, exporter=exporter, rng=rng)
        name = _export_name(number)
        (folder / name).write_bytes(muse_xml(ecg))
        truths[name] = _truth(visit)
        if number in faulty:
            kept[number] = ecg
    for place, ((_, fault), number) in enumerate(zip(MUSE_FAULTS, faulty, strict=True), start=ecgs):
        fault(kept[number], folder / _export_name(place))
    _write_label_tables(cases, visits=visits, folder=folder, rng=rng)
    rejects = Counter(str(reason) for reason, _ in MUSE_FAULTS)
    return SiteTruth(ecgs, len(cases), dict(rejects), truths)


def write_ptb_xl_site(cases: Sequence[Case], *, ecgs: int, folder: Path, rng: np.random.Generator) -> SiteTruth:
    """Write a data set in PTB-XL's layout: `ecgs` usable records, faulty ones, and the two tables of its own."""
    folder.mkdir(parents=True)
    visits = sample_visits(cases, ecgs, rng)
    faulty = rng.integers(ecgs, size=len(WFDB_FAULTS)).tolist()
    places = {case.patient.mrn: place for place, case in enumerate(cases)}
    kept: dict[int, NDArray[np.int16]] = {}
    rows, truths = [], {}
    for number, visit in enumerate(visits):
        heart = _heart(visit, rng)
        x_mv, _, _ = simulate(heart, seconds=10, sampling_hz=500, rng=rng)
        counts = twelve_leads(x_mv + simulate_noise(seconds=10, sampling_hz=500, mains_hz=50, rng=rng))
        name = _ptb_xl_name(number + 1)
        write_wfdb(folder / f"{name}.hea", counts, 500)
        codes = _scp_codes(visit, heart.rate_bpm, rng)
        rows.append(_database_row(number + 1, visit=visit, place=places[visit.case.patient.mrn], codes=codes))
        truths[f"{name}.hea"] = _truth(visit)
        if number in faulty:
            kept[number] = counts
    for ecg_id, ((_, fault), number) in enumerate(zip(WFDB_FAULTS, faulty, strict=True), start=ecgs + 1):
        fault(kept[number], folder / f"{_ptb_xl_name(ecg_id)}.hea")
        rows.append({**rows[number], "ecg_id": ecg_id, "filename_hr": _ptb_xl_name(ecg_id)})
    _write_csv(folder / "ptbxl_database.csv", list(rows[0]), [list(row.values()) for row in rows])
    statements = [
        [code, text, float(bool(kind)) or "", "" if kind else 1.0, kind, subkind]
        for code, (text, kind, subkind) in SCP_DESCRIPTIONS.items()
    ]
    columns = ["", "description", "diagnostic", "rhythm", "diagnostic_class", "diagnostic_subclass"]
    _write_csv(folder / "scp_statements.csv", columns, statements)
    rejects = Counter(str(reason) for reason, _ in WFDB_FAULTS)
    return SiteTruth(ecgs, len(cases), dict(rejects), truths)


def _database_row(ecg_id: int, *, visit: Visit, place: int, codes: Mapping[str, float]) -> dict[str, Any]:
    """A row of `ptbxl_database.csv`, the columns that matter; `place` numbers the patient."""
    return {
        "ecg_id": ecg_id,
        "patient_id": float(1001 + place),
        # PTB-XL writes 300 for every age over 89.
        "age": 300.0 if visit.age_years > 89 else float(visit.age_years),
        "sex": int(visit.case.patient.sex == "F"),
        "device": "CS-12   E",
        "recording_date": f"{visit.at:%Y-%m-%d %H:%M:%S}",
        "report": _report(ecg_id, codes),
        "scp_codes": str(codes),
        "strat_fold": 1 + place % 10,
        "filename_hr": _ptb_xl_name(ecg_id),
    }


def _report(ecg_id: int, codes: Mapping[str, float]) -> str:
    """What a physician wrote on an ECG with these statements, the rhythm first: in English or, of two in three,
    German. Some end with the remark of a cart's program or with the codes of a curator, and some ECGs have none."""
    if ecg_id % 40 == 0:
        return "trace only requested."
    *findings, rhythm = codes
    if ecg_id % 3:
        said = " ".join(GERMAN[code] for code in (rhythm, *findings))
    else:
        said = " ".join(f"{SCP_DESCRIPTIONS[code][0]}." for code in (rhythm, *findings))
    if ecg_id % 8 == 1:
        said += f" 4.46{' ' * 26}unbestÄtigter bericht"
    return said + (f" Edit: {', '.join(codes)}" if ecg_id % 16 == 5 else "")


def _heart(visit: Visit, rng: np.random.Generator) -> Heart:
    return sample_heart(visit.case.person, disease=visit.case.shown, severity=visit.severity, rng=rng)


def _truth(visit: Visit) -> EcgTruth:
    severity = 0.0 if visit.case.shown == "none" else round(visit.severity, 3)
    return EcgTruth(visit.case.disease, visit.case.shown, severity)


def _simulate_muse_ecg(
    visit: Visit, *, patient_id: str | None, exporter: Exporter, rng: np.random.Generator
) -> MuseEcg:
    seconds = 5 if rng.random() < SHORT_SHARE else 10
    sampling_hz = 250 if rng.random() < SLOW_SHARE else 500
    heart = _heart(visit, rng)
    x_mv, times, premature = simulate(heart, seconds=seconds, sampling_hz=sampling_hz, rng=rng)
    rhythm = to_counts(x_mv + simulate_noise(seconds=seconds, sampling_hz=sampling_hz, mains_hz=60, rng=rng))
    measured = measure(heart)
    ecg = MuseEcg(
        exporter=exporter,
        patient=visit.case.patient,
        patient_id=patient_id,
        age_years=visit.age_years,
        acquired_at=visit.at,
        sampling_hz=sampling_hz,
        median=to_counts(median_beat(heart, sampling_hz)),
        rhythm=rhythm,
        r_times_ms=tuple(np.rint(times * 1000).astype(int).tolist()),
        premature=tuple(premature.tolist()),
        measurements=measured,
        statements=_statements(visit, measured, premature=bool(premature.any()), rng=rng),
        typed=_typed(visit, exporter),
        escaped=bool(rng.random() < 0.5),
    )
    if rng.random() < 0.1:
        order = rng.permutation(len(ecg.leads))
        leads = tuple(ecg.leads[place] for place in order)
        ecg = replace(ecg, leads=leads, median=ecg.median[order], rhythm=ecg.rhythm[order])
    return ecg


def _statements(visit: Visit, measured: Measurements, *, premature: bool, rng: np.random.Generator) -> tuple[str, ...]:
    """What a GE cart prints: rhythm, findings, conclusion. Some texts are a physician's, about the patient."""
    who, rate_bpm = visit.case.patient, measured.rate_bpm
    rhythm = "Sinus tachycardia" if rate_bpm > 100 else "Sinus bradycardia" if rate_bpm < 60 else "Normal sinus rhythm"
    findings = ["Premature ventricular complexes"] if premature else []
    if not -30 <= measured.r_axis <= 90:
        findings.append("Left axis deviation" if measured.r_axis < -30 else "Rightward axis")
    is_sick = visit.case.shown != "none" and visit.severity > 0.5
    findings += DISEASE_STATEMENTS[visit.case.shown] if is_sick else VARIANT_STATEMENTS[visit.case.person.variant]
    if rng.random() < 0.3:
        findings.append("Nonspecific ST & T wave abnormality")
    said = [rhythm, *findings, "Abnormal ECG" if is_sick else "Borderline ECG" if findings else "Normal ECG"]
    if rng.random() < 0.05:
        said.append(f"Discussed with {who.first_name} {who.last_name} & family")
    return tuple(said)


def _typed(visit: Visit, exporter: Exporter) -> tuple[str, ...]:
    """What a person inserts into the cart's statements: at times a sentence about the patient, and who confirmed."""
    who, (last, first) = visit.case.patient, exporter.physician
    sentence = (f"Known {TYPED} of {who.first_name} {who.last_name}, ask {last}",) if visit.at.second < 20 else ()
    return (*sentence, f"Confirmed by {last}, {first} ({exporter.site_number}42) on {visit.at:%m/%d/%Y %H:%M:%S}")


def _scp_codes(visit: Visit, heart_rate_bpm: float, rng: np.random.Generator) -> dict[str, float]:
    """Statements with their likelihoods (%), the rhythm with 0 as PTB-XL does."""
    if visit.case.disease == "none":
        finding = "IMI" if rng.random() < 0.06 else HEALTHY[visit.case.person.variant]
        codes = {finding: float(rng.choice([80.0, 100.0]))}
    else:
        choices = INJURIES[visit.case.disease]
        codes = dict.fromkeys(choices[rng.choice(len(choices), p=(0.6, 0.25, 0.15))], 100.0)
    rhythm = "STACH" if heart_rate_bpm > 100 else "SBRAD" if heart_rate_bpm < 55 else "SR"
    return {**codes, rhythm: 0.0}


def _write_label_tables(
    cases: Sequence[Case], *, visits: Sequence[Visit], folder: Path, rng: np.random.Generator
) -> None:
    """Echo measurements within a fortnight of most ECGs of those who had one; diagnoses of those who were examined."""
    echoed = {case.patient.mrn for case in cases if rng.random() < ECHO_SHARE}
    columns = ["patient_id", "observed_at", "system", "code", "value"]
    echoes, diagnoses = [], []
    for visit in visits:
        mrn = visit.case.patient.mrn
        if mrn in echoed and (visit.first or rng.random() < 0.8):
            at = visit.at + timedelta(days=int(rng.integers(-14, 15)))
            value = ejection_fraction(visit.case, rng)
            echoes.append([mrn, f"{at:%Y-%m-%d %H:%M:%S}", "measurement", "lvef_percent", value])
    for case in cases:
        if rng.random() < SCREENED_SHARE:
            at = case.first_visit + timedelta(days=int(rng.integers(365)))
            has_it = int(case.disease == "hcm")
            diagnoses.append([case.patient.mrn, f"{at:%Y-%m-%d %H:%M:%S}", "diagnosis", "I42.1", has_it])
    _write_csv(folder / "echo_reports.csv", columns, echoes)
    _write_csv(folder / "diagnoses.csv", columns, diagnoses)


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([columns, *rows])


def _export_name(number: int) -> str:
    return f"ecg-{number + 1:04d}.xml"


def _ptb_xl_name(ecg_id: int) -> str:
    return f"records500/{ecg_id // 1000 * 1000:05d}/{ecg_id:05d}_hr"
