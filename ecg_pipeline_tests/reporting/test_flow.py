"""The participant flow: what was left out, and at which step."""

from dataclasses import dataclass
from typing import Any

from ecg_pipeline.reporting.flow import participant_flow
from ecg_pipeline.reporting.results import TaskResults


@dataclass(frozen=True)
class Measured:
    """An evaluation of so many ECGs."""

    ecgs: int

    def metrics(self) -> dict[str, Any]:
        return {"ecgs": self.ecgs}


def flow_of(**counts):
    splits = {f"{split}{what}": 0 for split in ("train", "validation", "test", "external") for what in COUNTED}
    return {"ecgs_in_store": 100, "without_patient_id": 7, **splits, **counts}


COUNTED = ("_ecgs", "_patients", "_positives")


def test_test_ecgs_that_a_view_lacks_are_counted_where_the_models_were_tested():
    made = participant_flow(
        TaskResults(
            name="hcm",
            title="HCM",
            outcome="a diagnosis",
            evaluations={  # type: ignore[arg-type]
                ("heartbeit", 1.0, "here"): Measured(28),
                ("small_cnn", 1.0, "here"): Measured(28),
                ("small_cnn", 1.0, "there"): Measured(93),
            },
            evaluation_counts={},
            flow={"here": flow_of(train_ecgs=63, test_ecgs=30), "there": flow_of(external_ecgs=93)},
            rejects={"here": {}, "there": {"empty_file": 2}},
            roles={"here": "internal", "there": "external"},
            titles={},
        )
    )
    assert made.files == [100, 102]
    assert made.used == [93, 93]
    assert made.not_tested == [2, 0]
