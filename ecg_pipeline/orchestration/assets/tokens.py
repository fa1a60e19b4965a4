"""The image tokenizer, and the patch tokens of every image."""

import dagster as dg

from ecg_pipeline.cohorts.pretraining_set import pretraining_set, save_training_set
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.published import published_key, weights_file
from ecg_pipeline.orchestration.checks import blocking_checks, check_result
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import DATA, TRAINING
from ecg_pipeline.orchestration.partitions import site_partitions
from ecg_pipeline.orchestration.resources import Build, Events, Workspace
from ecg_pipeline.orchestration.withdrawn import no_withdrawn_patients
from ecg_pipeline.provenance.withdraw import CHECK
from ecg_pipeline.study import Study
from ecg_pipeline.tokens import recipes, shards
from ecg_pipeline.tokens.recipes import ImportedTokenizer
from ecg_pipeline.tokens.shards import TokenShards, tokenise_site
from ecg_pipeline.tokens.tokenizer import ImageTokenizer, signs_of_collapse

MEASURED = 512
"""Number of images on which the usage of an imported vocabulary is measured: 100,000 patches."""


def token_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Assets `image_tokenizer`, and `patch_tokens` by site, of a study that pretrains on them."""
    if "patch_tokens" not in study.targets:
        return []
    pretraining = dg.SpecificPartitionsPartitionMapping(list(study.pretraining_sites))

    @dg.asset(
        group_name="tokens",
        ins={name: dg.AssetIn(partition_mapping=pretraining) for name in ("image_shards", "waveform_store")},
        deps=[published_key("image_tokenizer")] if isinstance(study.tokenizer, ImportedTokenizer) else [],
        check_specs=blocking_checks(["image_tokenizer"], "codebook_in_use", CHECK),
        kinds={"torch", "mlflow"},
        pool=TRAINING,
        **identified(recipes.REVISION, tokenizer=study.tokenizer, split=study.split),
    )
    def image_tokenizer(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        image_shards: dict[str, ImageShards],
        waveform_store: dict[str, WaveformStore],
    ) -> Events:
        """DALL-E's encoder from a local file, or a discrete VAE trained on the pretraining sites' training patients."""
        yield from workspace.materialise(
            context,
            ImageTokenizer,
            make=lambda build: _make_tokenizer(workspace, study, image_shards, waveform_store, build),
            metadata_of=metadata.image_tokenizer,
            check=lambda made: [
                check_result("codebook_in_use", signs_of_collapse(made.config())),
                no_withdrawn_patients(study, workspace.home, made.folder),
            ],
        )

    @dg.asset(
        partitions_def=site_partitions(study),
        group_name="tokens",
        kinds={"zarr"},
        pool=DATA,
        **identified(shards.REVISION),
    )
    def patch_tokens(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        image_shards: ImageShards,
        image_tokenizer: ImageTokenizer,
    ) -> Events:
        """One token a patch, 196 an image: the tokenizer runs once an image, not once an epoch."""
        yield from workspace.materialise(
            context,
            TokenShards,
            make=lambda build: tokenise_site(
                image_shards,
                image_tokenizer,
                build.folder,
                device=workspace.device,
                progress=build.progress,
                previous=build.previous(),
            ),
            metadata_of=lambda made: metadata.patch_tokens(made, image_tokenizer.vocabulary),
        )

    return [image_tokenizer, patch_tokens]


def _make_tokenizer(
    workspace: Workspace,
    study: Study,
    images: dict[str, ImageShards],
    waveform_store: dict[str, WaveformStore],
    build: Build,
) -> None:
    """Import a tokenizer or train one on the pretraining set, and record its training set."""
    from ecg_pipeline.tokens.dalle import import_tokenizer
    from ecg_pipeline.tokens.encode import measure_usage
    from ecg_pipeline.tokens.train import sample_images, train_tokenizer

    ecgs = pretraining_set((store.ecgs() for store in waveform_store.values()), study.split)
    ecg_ids, recipe = frozenset(ecgs["ecg_id"]), study.tokenizer
    if isinstance(recipe, ImportedTokenizer):
        imported = import_tokenizer(weights_file(recipe.weights), out=build.folder)
        measure_usage(imported, sample_images(images, ecg_ids, seed=0, limit=MEASURED), workspace.device)
        save_training_set(build.folder, "image_tokenizer", None)
        return
    save_training_set(build.folder, "image_tokenizer", ecgs)
    with workspace.training(build) as run:
        train_tokenizer(
            recipe,
            images=images,
            ecg_ids=ecg_ids,
            out=build.folder,
            device=workspace.device,
            progress=build.progress,
            log_metrics=run.metrics,
        )
