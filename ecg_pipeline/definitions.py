"""Definitions of the active study: what the Dagster UI, the daemon and the command line load."""

import dagster as dg

from ecg_pipeline.orchestration import without_marks
from ecg_pipeline.orchestration.assets import source_versions, study_assets
from ecg_pipeline.orchestration.automation import automated
from ecg_pipeline.orchestration.jobs import study_jobs
from ecg_pipeline.orchestration.resources import House, house_resource, make_house
from ecg_pipeline.orchestration.schedules import study_schedules
from ecg_pipeline.orchestration.sensors import study_sensors
from ecg_pipeline.study import Study, active_study


def build_house(study: Study) -> House:
    """The house of a study."""
    return make_house(study, source_versions(study))


def build_definitions(house: House) -> dg.Definitions:
    """Assemble the definitions of a house's study."""
    with without_marks():
        jobs = study_jobs(house.study, lambda: built)
        built = dg.Definitions(
            assets=automated(study_assets(house.study), house),
            jobs=jobs,
            schedules=study_schedules(jobs),
            sensors=study_sensors(),
            resources={"house": house_resource(house), "io_manager": house.handles},
            executor=dg.in_process_executor,
        )
    return built


defs = build_definitions(build_house(active_study()))
