"""A process that makes one partition of a site's data each time it is told to: `python -m ... ASSETS SITE`.

It reads a line, makes the partition, and prints a line: `made`, or why not. The home and the study are those of the
environment.
"""

import sys

import dagster as dg

from ecg_pipeline.orchestration.assets import source_versions
from ecg_pipeline.orchestration.assets.hospitals import hospital_assets
from ecg_pipeline.orchestration.assets.ingest import ingest_assets
from ecg_pipeline.orchestration.plan import Run
from ecg_pipeline.orchestration.resources import make_workspace, workspace_resource
from ecg_pipeline.orchestration.run_worker import execute
from ecg_pipeline.orchestration.runs import QUIET
from ecg_pipeline.study import active_study


def main(assets: str, site: str) -> None:
    """Make the partition as often as it is asked for."""
    study = active_study()
    workspace = make_workspace(study, source_versions(study))
    definitions = dg.Definitions(
        assets=[*hospital_assets(study), *ingest_assets(study)],
        resources={"workspace": workspace_resource(workspace), "io_manager": workspace.handles},
        executor=dg.in_process_executor,
    )
    run = Run(tuple(map(dg.AssetKey, assets.split(","))), site)
    with dg.DagsterInstance.ephemeral() as instance:
        print("ready", flush=True)
        for _ in sys.stdin:
            said = execute(definitions, instance, run=run, config=QUIET)
            print((said or "made").replace("\n", " "), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
