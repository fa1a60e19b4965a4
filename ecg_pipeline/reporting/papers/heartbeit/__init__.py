"""The HeartBEiT paper (Vaid et al., 2023)."""

from ecg_pipeline.reporting.paper import Paper
from ecg_pipeline.reporting.papers.heartbeit.deviations import deviations
from ecg_pipeline.reporting.papers.heartbeit.tables import published

HEARTBEIT = Paper(
    tables=published,
    source="tables 2 and 3. The paper's AUPRC is the area under straight lines between the points of the curve.",
    optimistic="HeartBEiT's released code does the same.",
    deviations=deviations,
)
