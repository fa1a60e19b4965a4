"""The tokenizer of texts, the texts least like each, and the tokens of every text."""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from ecg_pipeline.cohorts.pretraining_set import pretraining_set, save_training_set
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.published import T5_FILES, published_key, published_names, weights_file
from ecg_pipeline.orchestration.checks import blocking_checks
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import DATA
from ecg_pipeline.orchestration.partitions import site_partitions
from ecg_pipeline.orchestration.resources import Build, Events, Workspace
from ecg_pipeline.orchestration.withdrawn import no_withdrawn_patients
from ecg_pipeline.provenance.withdraw import CHECK
from ecg_pipeline.study import Study
from ecg_pipeline.texts import encode, recipes
from ecg_pipeline.texts.encode import TextTokens, encode_site
from ecg_pipeline.texts.negatives import Embed, TextNegatives, find_negatives
from ecg_pipeline.texts.similarity import tf_idf
from ecg_pipeline.texts.site_texts import ClinicalTexts, training_texts
from ecg_pipeline.texts.tokenizer import T5, TextTokenizer, import_tokenizer, train_tokenizer


def text_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Assets `text_tokenizer`, `text_negatives`, and `text_tokens` by site, of a study that pretrains on texts; of one
    that only tries networks on prompts, the tokenizer that was taken over with them."""
    if "text_tokens" not in study.targets:
        return [_prompt_tokenizer(study)] if study.takes_text_tokenizer else []
    pretraining = dg.SpecificPartitionsPartitionMapping(list(study.pretraining_sites))
    read = {name: dg.AssetIn(partition_mapping=pretraining) for name in ("waveform_store", "clinical_texts")}
    recipe = study.texts

    @dg.asset(
        group_name="texts",
        ins=read,
        deps=[published_key(name) for name in T5_FILES] if recipe.t5 else [],
        check_specs=blocking_checks(["text_tokenizer"], CHECK),
        pool=DATA,
        **identified(
            recipes.TOKENIZER_REVISION,
            t5=recipe.t5,
            vocabulary=recipe.vocabulary,
            longest=recipe.longest,
            split=study.split,
        ),
    )
    def text_tokenizer(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        waveform_store: dict[str, WaveformStore],
        clinical_texts: dict[str, ClinicalTexts],
    ) -> Events:
        """A Unigram tokenizer of the texts of the pretraining sites' training patients, or that of a local T5."""

        def make(build: Build) -> None:
            ecgs, texts = _training(study, waveform_store, clinical_texts)
            save_training_set(build.folder, "text_tokenizer", None if recipe.t5 else ecgs)
            said = texts["text"].to_list()
            if recipe.t5:
                folder = weights_file(published_names(study)["text_tokenizer"]).parent
                import_tokenizer(folder, longest=recipe.longest, texts=said, out=build.folder)
            else:
                train_tokenizer(said, vocabulary=recipe.vocabulary, longest=recipe.longest, out=build.folder)

        yield from workspace.materialise(
            context,
            TextTokenizer,
            make=make,
            metadata_of=metadata.text_tokenizer,
            check=lambda made: [no_withdrawn_patients(study, workspace.home, made.folder)],
        )

    @dg.asset(
        group_name="texts",
        ins=read,
        check_specs=blocking_checks(["text_negatives"], CHECK),
        kinds={"parquet"},
        pool=DATA,
        **identified(recipes.NEGATIVES_REVISION, t5=recipe.t5, negatives=recipe.negatives, split=study.split),
    )
    def text_negatives(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        waveform_store: dict[str, WaveformStore],
        clinical_texts: dict[str, ClinicalTexts],
        text_tokenizer: TextTokenizer,
    ) -> Events:
        """The distinct texts of training patients, each with the least similar ones of its language."""

        def make(build: Build) -> None:
            ecgs, texts = _training(study, waveform_store, clinical_texts)
            save_training_set(build.folder, "text_negatives", ecgs)
            find_negatives(
                texts,
                text_tokenizer,
                count=recipe.negatives,
                out=build.folder,
                embed=embedder(text_tokenizer),
                progress=build.progress,
            )

        yield from workspace.materialise(
            context,
            TextNegatives,
            make=make,
            metadata_of=metadata.text_negatives,
            check=lambda made: [no_withdrawn_patients(study, workspace.home, made.folder)],
        )

    @dg.asset(
        partitions_def=site_partitions(study),
        group_name="texts",
        kinds={"zarr"},
        pool=DATA,
        **identified(encode.REVISION),
    )
    def text_tokens(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        waveform_store: WaveformStore,
        clinical_texts: ClinicalTexts,
        text_tokenizer: TextTokenizer,
        text_negatives: TextNegatives,
    ) -> Events:
        """The text of each ECG as tokens, one row an ECG that has one."""
        yield from workspace.materialise(
            context,
            TextTokens,
            make=lambda build: encode_site(
                waveform_store,
                clinical_texts,
                tokenizer=text_tokenizer,
                negatives=text_negatives,
                out=build.folder,
                progress=build.progress,
                previous=build.previous(),
            ),
            metadata_of=metadata.text_tokens,
        )

    return [text_tokenizer, text_negatives, text_tokens]


def embedder(tokenizer: TextTokenizer) -> Embed:
    """What says how alike two texts are: the encoder of the tokenizer's T5, if it is of one, else TF-IDF."""
    folder = tokenizer.folder / T5
    if not folder.is_dir():
        return tf_idf
    from ecg_pipeline.models.t5 import load_encoder, mean_vectors

    encoder, encode = load_encoder(folder), tokenizer.load()
    return lambda texts: mean_vectors(encoder, *encode(texts))


def _prompt_tokenizer(study: Study) -> dg.AssetsDefinition:
    """Asset `text_tokenizer` of a study that reads no texts but prompts."""
    recipe = study.texts

    @dg.asset(
        group_name="texts",
        deps=[published_key(name) for name in T5_FILES],
        **identified(recipes.TOKENIZER_REVISION, t5=recipe.t5, longest=recipe.longest),
    )
    def text_tokenizer(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Events:
        """The tokenizer of a local T5, for prompts."""

        def make(build: Build) -> None:
            save_training_set(build.folder, "text_tokenizer", None)
            folder = weights_file(published_names(study)["text_tokenizer"]).parent
            import_tokenizer(folder, longest=recipe.longest, texts=[], out=build.folder)

        yield from workspace.materialise(context, TextTokenizer, make=make, metadata_of=metadata.text_tokenizer)

    return text_tokenizer


def _training(
    study: Study, stores: Mapping[str, WaveformStore], texts: Mapping[str, ClinicalTexts]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The ECGs of the pretraining set that have a text, and their texts."""
    ecgs = pretraining_set((store.ecgs() for store in stores.values()), study.split)
    said = training_texts(texts.values(), ecgs)
    return ecgs.filter(pl.col("ecg_id").is_in(said["ecg_id"].implode())), said
