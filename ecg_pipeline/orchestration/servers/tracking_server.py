"""MLflow's tracking server over a study's runs, once its database is made: `python -m ... HOME EXPERIMENT PORT`."""

import os
import runpy
import sys
from pathlib import Path

from ecg_pipeline.links import HOST
from ecg_pipeline.tracking import artifacts, prepare_store, tracking_uri


def main(home: Path, experiment: str, port: int) -> None:
    """Be the tracking server."""
    prepare_store(home, experiment)
    # Its jobs judge and summarise the traces of language models, in eight processes that there is nothing for here.
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
