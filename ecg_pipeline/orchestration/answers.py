"""The asset check that a pretraining on labels predicted none of the answers of a task."""

import dagster as dg

from ecg_pipeline.cohorts import leaks
from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule
from ecg_pipeline.models.family import RANDOM
from ecg_pipeline.models.start import start_of
from ecg_pipeline.orchestration.checks import check_result
from ecg_pipeline.training.checkpoints import FinetunedModel


def pretraining_saw_no_answers(
    model: FinetunedModel, rule: MeasurementRule | DiagnosisRule | StatementRule
) -> dg.AssetCheckResult:
    """Check that what a task asks for was no label of the pretraining that a model started from.

    A warning if the labels are not known, or some cannot be compared with the task's codes.
    """
    check, start = "pretraining_saw_no_answers", start_of(model.config())
    if start.is_random:
        return check_result(check, [], note=f"nothing was pretrained: {RANDOM}")
    if not start.saw_labels:
        return check_result(check, [], note=f"no label was pretrained on: pretraining saw {start.saw or 'no labels'}")
    if not isinstance(rule, StatementRule):
        return check_result(check, [], note=f"statements on ECGs are no answers of a task by {rule.kind}")
    found = leaks.answers_pretrained_on(start.labels, rule)
    if not start.labels:
        return check_result(check, found, note="which labels were pretrained on is unknown", warns=True)
    if others := leaks.not_compared(start.labels, rule):
        note = (
            f"{len(others)} of {len(start.labels)} labels are statements of another vocabulary than the task's "
            f"({rule.system}) and cannot be compared with its codes: some may say the same"
        )
        return check_result(check, found, note=note, warns=True)
    return check_result(check, found, note=f"{len(start.labels)} labels were pretrained on")
