"""Definitions of the active study: what the Dagster UI, the daemon and the command line load."""

import dagster as dg

from ecg_pipeline.orchestration import without_preview_warnings
from ecg_pipeline.orchestration.assets import source_versions, study_assets
from ecg_pipeline.orchestration.automation import with_automation
from ecg_pipeline.orchestration.jobs import study_jobs
from ecg_pipeline.orchestration.made_of import with_audit_commands
from ecg_pipeline.orchestration.resources import Workspace, make_workspace, workspace_resource
from ecg_pipeline.orchestration.schedules import study_schedules
from ecg_pipeline.orchestration.sensors import study_sensors
from ecg_pipeline.study import Study, active_study


def build_workspace(study: Study) -> Workspace:
    """The workspace of a study: the study in its home folder."""
    return make_workspace(study, source_versions(study))


def build_definitions(workspace: Workspace) -> dg.Definitions:
    """Assemble the definitions of a workspace's study."""
    with without_preview_warnings():
        jobs = study_jobs(workspace.study, lambda: built)
        built = dg.Definitions(
            assets=with_audit_commands(with_automation(study_assets(workspace.study), workspace)),
            jobs=jobs,
            schedules=study_schedules(jobs),
            sensors=study_sensors(),
            resources={"workspace": workspace_resource(workspace), "io_manager": workspace.handles},
            executor=dg.in_process_executor,
        )
    return built


defs = build_definitions(build_workspace(active_study()))
