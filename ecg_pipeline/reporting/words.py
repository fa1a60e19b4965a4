"""Names of the study and its files in words."""

from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule

EXCLUSIONS = {
    "without_patient_id": "no patient id",
    "waveform_of_another_site": "waveform of another site",
    "patient_also_internal": "external patient also seen internally",
    "waveform_pretrained_on": "waveform that was pretrained on",
    "without_label": "no label",
}
"""Steps of `Cohort.flow` that leave ECGs out."""


def outcome(rule: MeasurementRule | DiagnosisRule | StatementRule) -> str:
    """The rule of a label in words: when an ECG is positive."""
    match rule:
        case MeasurementRule():
            return f"{rule.code} of at most {rule.at_most:g}, measured within {rule.window_days} days of the ECG."
        case DiagnosisRule():
            return f"a diagnosis of {rule.code}; negative if it was examined for and excluded."
        case StatementRule():
            least = f" with a likelihood of at least {rule.minimum_likelihood:g}" if rule.minimum_likelihood else ""
            without = f"; ECGs with one of {', '.join(rule.exclude)} are left out" if rule.exclude else ""
            return f"the ECG carries one of {', '.join(rule.positive)} ({rule.system}){least}{without}."


def plain(name: str) -> str:
    """A name with spaces instead of underscores."""
    return name.replace("_", " ")
