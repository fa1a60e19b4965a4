"""Dagster loads the asset graph in every process it starts, so the graph brings nothing heavy with it."""

import os
import subprocess
import sys

HEAVY = ("torch", "timm", "mlflow", "scipy", "sklearn", "numba", "matplotlib", "wfdb")


def test_the_graph_loads_without_what_only_the_work_needs():
    script = f"import sys, ecg_pipeline.definitions; print(*[name for name in {HEAVY} if name in sys.modules])"
    environment = {**os.environ, "ECG_STUDY": "demo"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
