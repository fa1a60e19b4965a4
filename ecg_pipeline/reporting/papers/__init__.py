"""The papers that a study can reproduce, by the name that a study file gives."""

from ecg_pipeline.reporting.paper import Paper
from ecg_pipeline.reporting.papers.heartbeit import HEARTBEIT

PAPERS: dict[str, Paper] = {"heartbeit": HEARTBEIT}
