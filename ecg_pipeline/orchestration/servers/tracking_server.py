"""MLflow's tracking server over a study's runs, once its database is made: `python -m ... HOME EXPERIMENT PORT`."""

import os
import runpy
import sys
from pathlib import Path

from ecg_pipeline.links import HOST
from ecg_pipeline.tracking import artifacts, prepare_store, tracking_uri


def main(home: Path, experiment: str, port: int) -> None:
    """Run the tracking server in this process."""
    prepare_store(home, experiment)
    # MLflow's jobs evaluate traces of language models in eight processes, which are not used here.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    sys.argv = [
        "mlflow",
        "server",
        f"--backend-store-uri={tracking_uri(home)}",
        f"--default-artifact-root={artifacts(home).as_uri()}",
        "--no-serve-artifacts",
        f"--host={HOST}",
        f"--port={port}",
        f"--allowed-hosts={HOST}:{port},localhost:{port}",
        "--workers=1",
    ]
    runpy.run_module("mlflow", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
