"""Dagster jobs: what a data team starts from the UI or a schedule.

Asset jobs where all assets have the same partitions definition. A Dagster job cannot span several of them, so the
others are jobs of one op, which runs what is stale as the command line does: one Dagster run a partition, in the
same instance.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from ecg_pipeline.orchestration.assets.views import view_key
from ecg_pipeline.orchestration.instance import TRAINING
from ecg_pipeline.orchestration.partitions import fraction_partitions, site_partitions, tested_sites
from ecg_pipeline.orchestration.runs import Runner
from ecg_pipeline.study import Study

DATA_TEAM, RESEARCH_TEAM = "team:data", "team:research"


@dataclass(frozen=True)
class Selection:
    """What an op job runs if it is stale. assets: asset selections. partitions: keys, none means all."""

    assets: tuple[str, ...]
    partitions: tuple[str, ...] = ()


def study_jobs(study: Study, definitions: Callable[[], dg.Definitions]) -> list[Any]:
    """Jobs `ingest`, `fine_tune_{task}`, `pretrain`, `evaluate_site`, `retrain` and `whole_study`.

    definitions: returns the definitions that contain these jobs.
    """
    tasks, sites = list(study.tasks), [site for task in study.tasks for site in tested_sites(study, task)]
    a_site = {"site": dg.Field(dg.Enum("Site", [dg.EnumValue(site) for site in dict.fromkeys(sites)]))}
    some_tasks = {
        "tasks": dg.Field(
            [dg.Enum("Task", [dg.EnumValue(task) for task in tasks])], default_value=tasks, description="Which tasks."
        )
    }
    return [
        dg.define_asset_job(
            "ingest",
            dg.AssetSelection.assets(
                "waveform_store",
                "clinical_labels",
                *(["filtered_waveforms"] if study.has_images else []),
                *(view_key(view) for view in study.views),
            ),
            description="Read one site's files: waveforms, labels, and the views that models read.",
            partitions_def=site_partitions(study),
            owners=[DATA_TEAM],
        ),
        *(_fine_tune(study, task) for task in tasks),
        *([_pretrain(study, definitions)] if study.pretraining else []),
        _op_job(
            "evaluate_site",
            description="Evaluate every model of the tasks at one site, with the existing models.",
            definitions=definitions,
            config_schema=a_site | some_tasks,
            selection=lambda config: Selection(
                tuple(
                    asset
                    for task in config["tasks"]
                    if config["site"] in tested_sites(study, task)
                    for asset in _evaluations(study, task)
                ),
                (config["site"],),
            ),
        ),
        _op_job(
            "retrain",
            description="From cohort to report, over the existing data and pretrained network: what is stale is "
            "trained, evaluated and reported again. The benchmark report is made if all tasks are selected.",
            definitions=definitions,
            config_schema=some_tasks,
            selection=lambda config: Selection(
                (
                    *_features(study),
                    *(f"group:{task}" for task in config["tasks"]),
                    *(["image_distance"] if study.has_images else []),
                    *(["benchmark_report"] if set(config["tasks"]) == set(tasks) else []),
                )
            ),
        ),
        _op_job(
            "whole_study",
            description="Run everything that is stale, from files to reports.",
            definitions=definitions,
            config_schema={},
            selection=lambda _: Selection(("*",)),
        ),
    ]


def _features(study: Study) -> list[str]:
    return [f"{model}/features" for model in study.probes]


def _evaluations(study: Study, task: str) -> list[str]:
    return [
        f"{task}/test_set",
        *(f"{task}/{model}/evaluation" for model in study.models_of(task)),
        *(f"{task}/{model}/zero_shot" for model in study.zero_shot_networks(task)),
    ]


def _pretrain(study: Study, definitions: Callable[[], dg.Definitions]) -> dg.JobDefinition:
    assets = (
        *sorted(study.fitted),
        *sorted(study.targets),
        *(f"{model}/pretrained_checkpoint" for model in study.pretraining),
        *_features(study),
    )
    return _op_job(
        "pretrain",
        description="Fit tokenizers, make the targets of every site, pretrain, and extract features for linear probes. "
        "Started by hand only.",
        definitions=definitions,
        config_schema={},
        selection=lambda config: Selection(assets),
    )


def _fine_tune(study: Study, task: str) -> Any:
    models = [dg.AssetKey([task, model, "finetuned_model"]) for model in study.models_of(task)]
    return dg.define_asset_job(
        f"fine_tune_{task}",
        dg.AssetSelection.assets(*models),
        description=f"Fine-tune every model on one fraction of the training patients: {study.tasks[task].title}.",
        partitions_def=fraction_partitions(study, task),
        tags={"task": task},
        owners=[RESEARCH_TEAM],
    )


def _op_job(
    name: str,
    *,
    description: str,
    definitions: Callable[[], dg.Definitions],
    config_schema: Mapping[str, Any],
    selection: Callable[[Mapping[str, Any]], Selection],
) -> dg.JobDefinition:
    """A job of one op that runs what is stale of a selection. Its config becomes tags of its run."""

    @dg.op(
        name=f"run_stale_{name}",
        description=description,
        config_schema=dict(config_schema),
        required_resource_keys={"workspace"},
        pool=TRAINING,
        out=dg.Out(dg.Nothing),
    )
    def run_stale(context: dg.OpExecutionContext) -> None:
        config = context.op_config or {}
        context.instance.add_run_tags(context.run.run_id, _tags(config))
        wanted, workspace = selection(config), context.resources.workspace
        runner = Runner(definitions(), workspace, jobs=os.cpu_count() or 1, log=context.log.info)
        made = runner.run_stale(wanted.assets, wanted.partitions, context.instance)
        counts = _output_counts([key.path[0] for run in made for key in run.assets], config.get("tasks", ()))
        for task, text in counts.items():
            context.log.info(f"{task}: {text}")
        context.add_output_metadata({"runs": len(made), **counts})

    @dg.job(name=name, description=description, owners=[RESEARCH_TEAM], executor_def=dg.in_process_executor)
    def job() -> None:
        run_stale()

    return job


def _tags(config: Mapping[str, Any]) -> dict[str, str]:
    singular = {"tasks": "task"}
    return {
        singular.get(name, name): value if isinstance(value, str) else ",".join(value) for name, value in config.items()
    }


def _output_counts(first_names: Sequence[str], tasks: Sequence[str]) -> dict[str, str]:
    """By task: how many of its outputs were made, or that it is up to date."""
    made = Counter(first_names)
    return {task: f"{made[task]} outputs made" if made[task] else "up to date" for task in tasks}
