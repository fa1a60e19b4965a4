"""The hospitals of a synthetic study as an asset, so that its data have a lineage too."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import DATA
from ecg_pipeline.orchestration.resources import HOSPITAL_SYSTEM, Events, Workspace
from ecg_pipeline.storage.files import digest_json, folder_digests, write_json
from ecg_pipeline.study import Study
from ecg_pipeline.synthetic import hospital
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system


def hospital_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Asset `hospital_system`, of a synthetic study."""
    if study.synthetic is None:
        return []
    system: HospitalSystem = study.synthetic

    @dg.asset(
        key=HOSPITAL_SYSTEM,
        group_name="hospital_system",
        kinds={"xml"},
        pool=DATA,
        **identified(hospital.REVISION, synthetic=system),
    )
    def hospital_system(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Events:
        """A toy hospital system: MUSE XML and WFDB files of invented patients, some of them bad, in drop folders."""
        folder = workspace.home / HOSPITAL_SYSTEM.path[-1]

        def make(out: Path) -> None:
            planted = write_hospital_system(system, folder)
            sites = {site: {"ecgs": truth.usable, "rejects": truth.rejects} for site, truth in planted.sites.items()}
            write_json(out / "written.json", {"sites": sites, "digest": digest_json(folder_digests(folder))})

        yield from workspace.materialise(
            context, Path, make=lambda build: make(build.folder), metadata_of=metadata.hospital_system
        )

    return [hospital_system]


def hospital_deps(study: Study) -> Sequence[dg.AssetKey]:
    """Additional upstream asset of what reads a synthetic study's drop folders."""
    return [HOSPITAL_SYSTEM] if study.synthetic else []
