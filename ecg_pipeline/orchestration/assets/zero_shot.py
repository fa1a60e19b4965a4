"""Pretrained networks that read texts, tried on the prompts of a task without training."""

import dagster as dg

from ecg_pipeline.cohorts.test_set import TestSet
from ecg_pipeline.evaluation import zero_shot as scoring
from ecg_pipeline.evaluation.zero_shot import ZeroShot
from ecg_pipeline.metrics.table import WITH_INTERVAL
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.training import pretraining_never_saw_it
from ecg_pipeline.orchestration.checks import blocking_checks
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.partitions import tested_partitions
from ecg_pipeline.orchestration.resources import Events, Workspace
from ecg_pipeline.orchestration.withdrawn import no_withdrawn_patients
from ecg_pipeline.provenance.withdraw import CHECK
from ecg_pipeline.study import Study
from ecg_pipeline.texts.tokenizer import TextTokenizer
from ecg_pipeline.training.checkpoints import PretrainedModel


def zero_shot_key(task: str, model: str) -> dg.AssetKey:
    """Asset key of a network tried on the prompts of a task."""
    return dg.AssetKey([task, model, "zero_shot"])


def zero_shot_asset(study: Study, task: str, model: str) -> dg.AssetsDefinition:
    """Asset `{task}/{model}/zero_shot`, by site. model: one of `Study.zero_shot_networks`."""
    key, partitions, recipe = zero_shot_key(task, model), tested_partitions(study, task), study.recipes[model]
    prompts = study.prompts_for(task)

    @dg.asset(
        key=key,
        group_name=task,
        partitions_def=partitions,
        ins={
            "test_set": dg.AssetIn(key=[task, "test_set"]),
            "pretrained": dg.AssetIn(key=[model, "pretrained_checkpoint"]),
        },
        check_specs=blocking_checks(key.path, "pretraining_never_saw_it", CHECK, partitions=partitions),
        kinds={"torch", "parquet"},
        **identified(
            scoring.REVISION + study.family(model).revision,
            model=recipe,
            task=task,
            prompts=prompts,
            evaluation=study.evaluation,
            metrics=[metric.name for metric in WITH_INTERVAL],
        ),
    )
    def zero_shot(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        test_set: TestSet,
        pretrained: PretrainedModel,
        text_tokenizer: TextTokenizer,
    ) -> Events:
        """How well ECGs of one hospital fit a sentence on a positive ECG, without any training on labels."""
        tested = test_set.table()
        yield from workspace.materialise(
            context,
            ZeroShot,
            make=lambda build: scoring.zero_shot(
                pretrained,
                test_set.view(recipe.view),
                tested,
                model=recipe,
                task=task,
                prompts=prompts,
                tokenizer=text_tokenizer,
                recipe=study.evaluation,
                out=build.folder,
                device=workspace.device,
                progress=build.progress,
            ),
            metadata_of=metadata.zero_shot,
            check=lambda made: [
                pretraining_never_saw_it(pretrained, tested),
                no_withdrawn_patients(study, workspace.home, made.folder, pretrained.folder, text_tokenizer.folder),
            ],
        )

    return zero_shot
