"""The deviations of a study's protocol from the paper's that apply to it, and their effect on its results."""

from collections.abc import Iterator

import polars as pl

from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.family import RANDOM
from ecg_pipeline.models.heartbeit.recipes import HeartBeitPretraining, HeartBeitRecipe
from ecg_pipeline.reporting.outline import TABLE_NUMBERS, table_words
from ecg_pipeline.reporting.paper import Deviation
from ecg_pipeline.reporting.results import Background, StudyResults
from ecg_pipeline.tokens.recipes import TokenizerRecipe
from ecg_pipeline.training.recipes import PretrainRecipe

# The network and the tokenizer of the paper.
WIDTH, DEPTH, VOCABULARY = 768, 12, 8192

OPTIMISERS = {"adamw": "AdamW", "adam": "Adam"}


def deviations(study: StudyResults) -> list[Deviation]:
    """The deviations of a study, the most important first."""
    return [
        *_of_patients(study),
        *_of_pretraining(study.background),
        *_of_finetuning(study),
        *_of_tasks(study),
        *_of_statistics(study),
    ]


def _of_patients(study: StudyResults) -> Iterator[Deviation]:
    tasks, background = study.tasks, study.background
    if background.synthetic:
        yield Deviation(
            "ECGs of patients.",
            "At least one site's patients and ECGs are invented.",
            "The results say nothing about medicine, nor about how models compare on real ECGs.",
        )
    if any(background.pretraining.values()):
        yield Deviation(
            "All ECGs of all hospitals are pretrained on, without labels: the external hospital and every test "
            "patient among them.",
            "Pretraining, and a tokenizer trained here, see training patients only.",
            "Tested patients were never seen by the model; results are lower than the paper's if seeing them helps.",
        )
    if None in [recipe for _, recipe in _pretrained(background)]:
        yield Deviation(
            "All ECGs of all hospitals are pretrained on, without labels: the external hospital and every test "
            "patient among them.",
            "A published checkpoint is used: on whom it was pretrained is not recorded here.",
            "Tested patients may have been seen without labels.",
        )
    if any("external" in task.roles.values() for task in tasks):
        yield Deviation(
            "The external set is defined by hospital only: a patient seen at two hospitals can train and be external.",
            "Such patients are left out of the external set, and counted in the participant flow.",
            "No external patient was seen in training; lower results than the paper's, if it had many such patients.",
        )
    if any("transfer" in task.roles.values() for task in tasks):
        yield Deviation(
            "PTB-XL is called an external validation.",
            "It is called a transfer: models are fine-tuned on its training patients and tested on its test patients.",
            "None on the results.",
        )
    split = (
        "PTB-XL's own folds where an ECG has one, else a hash of the patient"
        if background.split.kind == "ptb_xl_folds"
        else "a hash of the patient, the same for every task and for pretraining"
    )
    yield Deviation(
        "Patients are shuffled in the order of their identifiers, and a fifth of them are for testing.",
        f"Test patients are chosen by {split}.",
        "Other test patients than the paper's; adding patients changes no other patient's split.",
    )
    yield Deviation(
        "A fraction of the training data is a fraction of the ECGs, so even a small one has ECGs of many patients.",
        "A fraction is a fraction of the patients, with all their ECGs; smaller ones are nested in larger ones.",
        "Small fractions are harder here than in the paper.",
    )


def _of_pretraining(background: Background) -> Iterator[Deviation]:
    beit, recipe = next(iter(_pretrained(background)), (None, None))
    if isinstance(background.tokenizer, TokenizerRecipe):
        yield Deviation(
            f"Images become tokens by DALL-E's tokenizer, with {VOCABULARY:,} of them.",
            f"By a tokenizer trained here on ECG sheets, with {background.tokenizer.vocabulary:,}.",
            "Other targets of pretraining; which are better is not known.",
        )
    if beit is not None and (beit.width, beit.depth) != (WIDTH, DEPTH):
        yield Deviation(
            f"{DEPTH} layers of width {WIDTH}, 86 million parameters.",
            f"{beit.depth} layers of width {beit.width}.",
            "A smaller model has less to gain from pretraining, a larger one more.",
        )
    if isinstance(recipe, HeartBeitPretraining):
        yield Deviation(
            "40 % of the patches are masked; learning rate 0.0005, 300 epochs; batch, clipping, etc. unpublished.",
            f"{recipe.mask.patches} patches at most ({recipe.mask.kind}), learning rate {recipe.learning_rate:g}, "
            f"{recipe.epochs} epochs, batch {recipe.batch}; what the paper leaves open is as in BEiT's own script.",
            "75 of 196 patches, BEiT's default, are 38 %, and most likely what the paper means; another number is an "
            "easier or a harder task.",
        )
    if background.sheet is not None:
        yield Deviation(
            "How eight leads are laid out on a sheet, and the order of both filters, are not published.",
            "One fixed layout and scale for all models of images, given in the study file.",
            "All of them see the same sheets here; those of the paper may have looked different.",
        )


def _pretrained(background: Background) -> list[tuple[HeartBeitRecipe, PretrainRecipe | None]]:
    """HeartBEiT's networks that are pretrained, with how; None is a published checkpoint."""
    found = ((background.models[name], recipe) for name, recipe in background.pretraining.items())
    return [(model, recipe) for model, recipe in found if isinstance(model, HeartBeitRecipe)]


def _of_finetuning(study: StudyResults) -> Iterator[Deviation]:
    results, background, recipe = study.rows, study.background, study.background.finetuning
    if recipe.is_optimistic:
        yield Deviation(
            "Results are those of the best epoch on the test set.",
            "The same, by choice; the split into training and test patients is this study's own.",
            "All results are optimistic, as the paper's are.",
        )
    else:
        yield Deviation(
            "Results are those of the best epoch on the test set; there is no validation set.",
            "The epoch is chosen once, on validation patients; test patients do not influence it.",
            "Lower results than the paper's protocol would give, most of all at small fractions.",
        )
        own = background.own_finetuning
        names = f"; {', '.join(own)}: with settings of their own, given in the study file" if own else ""
        yield Deviation(
            "AdamW for HeartBEiT and Adam for the others, one learning rate for all.",
            f"{OPTIMISERS[recipe.optimiser]} and one learning rate for all{names}.",
            "Removes an advantage of one model over the others"
            + ("; those with settings of their own may have one." if own else "; none is tuned separately."),
        )
    yield Deviation(
        "30 epochs by the text, 20 by the code; a learning rate from 0.0003 to 0.001 by the text, in the code really "
        "from 0.00004 to 0.001 and down to almost 0.",
        f"{recipe.epochs} epochs of one cycle up to {recipe.max_learning_rate:g}, as in the code.",
        "Small, because the cycle ends at a learning rate near 0.",
    )
    random = results.filter(pl.col("initialisation") == RANDOM)["model"].unique(maintain_order=True).to_list()
    if random := [name for name in random if isinstance(background.models[name], TimmRecipe)]:
        yield Deviation(
            "Comparators start from ImageNet weights.",
            f"{', '.join(random)}: {RANDOM}, because the study names no weights.",
            "They do worse than with weights, so a difference from them says little about pretraining on ECGs.",
        )
    if background.probes:
        yield Deviation(
            "Every model is fine-tuned whole.",
            f"{', '.join(background.probes)}: a logistic regression on the features of a frozen encoder, beside models "
            "that are fine-tuned.",
            "They show what the features hold, not what the network can reach.",
        )
    if "vit_b16" in background.models:
        yield Deviation(
            "The baseline called ViT-B/16 is, in the code, a BEiT of ImageNet-22K, normalised as the CNNs are.",
            "The network of that name in timm, normalised as its weights were trained.",
            "A fairer, probably stronger baseline than the paper's.",
        )
    yield Deviation(
        "One training a result; the head's initial weights and the order of ECGs are not seeded.",
        f"{len(recipe.seeds)} seeded training{'s' if len(recipe.seeds) > 1 else ''} a result.",
        "The spread over seeds is part of the uncertainty: with one seed it is unknown.",
    )


def _of_tasks(study: StudyResults) -> Iterator[Deviation]:
    names, studied = {task.name for task in study.tasks}, table_words(TABLE_NUMBERS.studied)
    if "low_lvef" in names:
        yield Deviation(
            "A low ejection fraction is 40 % or less by the title, less than 40 % by the text.",
            f"The rule of the study file, printed in {studied}.",
            "Small: only ejection fractions of exactly 40 % get the other label.",
        )
    if "stemi" in names:
        yield Deviation(
            "No rule says which of PTB-XL's statements make a STEMI; 5.6 % of ECGs are positive.",
            f"The statements of the study file, printed in {studied}, not tuned to meet that prevalence.",
            "AUPRC and predictive values depend on the prevalence.",
        )


def _of_statistics(study: StudyResults) -> Iterator[Deviation]:
    measures = table_words(TABLE_NUMBERS.measures)
    yield Deviation(
        "500 bootstrap draws; nearly all intervals are printed with a width of 0.00.",
        f"{study.background.evaluation.bootstrap_draws} draws over patients, percentile intervals; paired differences.",
        "Wider intervals, which reflect the number of patients. Overlap of intervals is not used as a test.",
    )
    yield Deviation(
        "AUPRC is the area under straight lines between points of the curve.",
        f"Average precision; the other is in {measures}.",
        "Slightly lower values.",
    )
    yield Deviation(
        "Metrics count ECGs.",
        f"The main tables count ECGs too; {measures} counts each patient once.",
        "None on the main tables.",
    )
