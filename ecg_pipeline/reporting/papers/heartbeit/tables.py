"""Tables 1 to 3 of the paper as data, to stand beside a study's own figures (`tables.yaml`)."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

TABLES = Path(__file__).with_name("tables.yaml")


@cache
def published() -> dict[str, Any]:
    """The paper's tables.

    title; fractions; models and parts: names by key; cohorts: [ECGs, percentage of positives] by task and part;
    finetuning_ecgs: by task, one for each fraction; auroc and auprc: by task, part and model, one [value, low, high]
    for each fraction; contradictions: sentences by task, those of the whole paper under `all`.
    """
    return yaml.safe_load(TABLES.read_text(encoding="utf-8"))
