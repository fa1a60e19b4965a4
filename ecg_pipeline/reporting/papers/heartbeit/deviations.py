"""Where a study's protocol differs from the paper's, and what that does to its figures: only what applies to it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from ecg_pipeline.models.recipes import BeitRecipe
from ecg_pipeline.reporting.results import Background, TaskResults
from ecg_pipeline.tokens.recipes import TokenizerRecipe

RANDOM = "random initialisation"


@dataclass(frozen=True)
class Deviation:
    """What the paper (its text, or the code that was released with it) does, what is done here, and the effect."""

    paper: str
    here: str
    effect: str


def deviations(tasks: Sequence[TaskResults], results: pl.DataFrame, background: Background) -> list[Deviation]:
    """The deviations of a study, the weightiest first."""
    return [
        *_of_patients(tasks, background),
        *_of_pretraining(background),
        *_of_finetuning(results, background),
        *_of_tasks(tasks),
        *_of_statistics(results, background),
    ]


def _of_patients(tasks: Sequence[TaskResults], background: Background) -> Iterator[Deviation]:
    if background.synthetic:
        yield Deviation(
            "ECGs of patients.",
            "At least one site's patients and ECGs are invented.",
            "No figure here says anything about medicine, or about how models compare on real ECGs.",
        )
    if background.pretraining:
        yield Deviation(
            "All ECGs of all hospitals are pretrained on, without labels: the external hospital and every test "
            "patient among them.",
            "Tokenizer and pretraining see training patients only.",
            "Figures are those of patients whom the model has never seen; lower than the paper's if seeing helps.",
        )
    else:
        yield Deviation(
            "All ECGs of all hospitals are pretrained on, without labels: the external hospital and every test "
            "patient among them.",
            "The checkpoint was taken over: on whom it was pretrained is not on record here.",
            "Tested patients may have been seen without labels.",
        )
    if any("external" in task.roles.values() for task in tasks):
        yield Deviation(
            "The external set is cut by hospital alone: a patient seen at two hospitals can train and be external.",
            "Such patients are left out of the external set, and counted in the participant flow.",
            "External figures are of strangers; lower than the paper's, if it had many such patients.",
        )
    if any("transfer" in task.roles.values() for task in tasks):
        yield Deviation(
            "PTB-XL is called an external validation.",
            "It is called a transfer: models are fine-tuned on its training patients and tested on its test patients.",
            "None on the figures.",
        )
    split = (
        "PTB-XL's own folds where a record has one, else a hash of the patient"
        if background.split.kind == "ptb_xl_folds"
        else "a hash of the patient, the same for every task and for pretraining"
    )
    yield Deviation(
        "Patients are shuffled in the order of their identifiers, and a fifth of them test.",
        f"Who tests is decided by {split}.",
        "Other patients test than would in the paper; nobody changes sides when patients are added.",
    )
    yield Deviation(
        "A fraction of the training data is one of ECGs, so even a small one holds many patients.",
        "A fraction is one of patients with all their ECGs, and a smaller one lies within a larger.",
        "Small fractions are harder here than in the paper.",
    )


def _of_pretraining(background: Background) -> Iterator[Deviation]:
    recipe, beit = background.pretraining, background.models[background.pretrained]
    if isinstance(background.tokenizer, TokenizerRecipe):
        yield Deviation(
            "Images become tokens by DALL-E's tokenizer, with 8,192 of them.",
            f"By a tokenizer trained here on ECG sheets, with {background.tokenizer.vocabulary:,}.",
            "Other targets of pretraining; which serve better is not known.",
        )
    if isinstance(beit, BeitRecipe) and (beit.width, beit.depth) != (768, 12):
        yield Deviation(
            "12 layers of width 768, 86 million parameters.",
            f"{beit.depth} layers of width {beit.width}.",
            "A smaller model has less to gain from pretraining.",
        )
    if recipe:
        yield Deviation(
            "40 % of the patches are masked; learning rate 0.0005, 300 epochs; batch, clipping, etc. unpublished.",
            f"{recipe.mask.patches} patches at most ({recipe.mask.kind}), learning rate {recipe.learning_rate:g}, "
            f"{recipe.epochs} epochs, batch {recipe.batch}; what the paper leaves open is as in BEiT's own script.",
            "75 of 196 patches, BEiT's default, are 38 %, and most likely what the paper means.",
        )
    yield Deviation(
        "How eight leads are drawn on a sheet, and the order of both filters, are not published.",
        "One fixed layout and scale for all models, as the study file says.",
        "All models here see the same sheets; those of the paper may have looked otherwise.",
    )


def _of_finetuning(results: pl.DataFrame, background: Background) -> Iterator[Deviation]:
    recipe = background.finetuning
    if recipe.is_optimistic:
        yield Deviation(
            "The figures are those of the best epoch on the test set.",
            "The same, by choice. Only who trains and who tests is this study's own split.",
            "Every figure here is optimistic, as the paper's are.",
        )
    else:
        yield Deviation(
            "The figures are those of the best epoch on the test set; there is no validation set.",
            "The epoch is chosen once, on validation patients, and no test patient has a say in it.",
            "Lower figures than the paper's protocol would give, most of all at small fractions.",
        )
        yield Deviation(
            "AdamW for HeartBEiT and Adam for the others, one learning rate for all.",
            "AdamW for all, one learning rate for all.",
            "Removes an advantage of one model over the others; none is tuned by itself.",
        )
    yield Deviation(
        "30 epochs by the text, 20 by the code; a learning rate from 0.0003 to 0.001 by the text, in the code really "
        "from 0.00004 to 0.001 and down to almost 0.",
        f"{recipe.epochs} epochs of one cycle up to {recipe.max_learning_rate:g}, as in the code.",
        "Small, because the cycle ends at a learning rate near 0.",
    )
    if random := results.filter(pl.col("initialisation") == RANDOM)["model"].unique(maintain_order=True).to_list():
        yield Deviation(
            "Comparators start from ImageNet weights.",
            f"{', '.join(random)}: {RANDOM}, because the study names no weights.",
            "They do worse than with weights, so a difference from them says little about pretraining on ECGs.",
        )
    if "vit_b16" in background.models:
        yield Deviation(
            "The baseline called ViT-B/16 is, in the code, a BEiT of ImageNet-22K, normalised as the CNNs are.",
            "The network of that name in timm, normalised as its weights were trained.",
            "A fairer, probably stronger baseline than the paper's.",
        )
    yield Deviation(
        "One training a figure; the head's initial weights and the order of ECGs are not seeded.",
        f"{len(recipe.seeds)} seeded training{'s' if len(recipe.seeds) > 1 else ''} a figure.",
        "The spread over seeds is part of the truth: with one seed it is unknown.",
    )


def _of_tasks(tasks: Sequence[TaskResults]) -> Iterator[Deviation]:
    names = {task.name for task in tasks}
    if "low_lvef" in names:
        yield Deviation(
            "A low ejection fraction is 40 % or less by the title, less than 40 % by the text.",
            "The rule of the study file, printed in Table 1.",
            "Small: only ejection fractions of exactly 40 % change sides.",
        )
    if "stemi" in names:
        yield Deviation(
            "No rule says which of PTB-XL's statements make a STEMI; 5.6 % of ECGs are positive.",
            "The statements of the study file, printed in Table 1, not tuned to meet that prevalence.",
            "AUPRC and predictive values move with the prevalence.",
        )


def _of_statistics(results: pl.DataFrame, background: Background) -> Iterator[Deviation]:
    yield Deviation(
        "500 bootstrap draws; nearly all intervals are printed with a width of 0.00.",
        f"{background.evaluation.bootstrap_draws} draws over patients, percentiles; differences are paired.",
        "Wider, truthful intervals. Overlap of intervals is not used as a test.",
    )
    yield Deviation(
        "AUPRC is the area under straight lines between points of the curve.",
        "Average precision; the other stands beside it in the table of further measures.",
        "Slightly lower values.",
    )
    yield Deviation(
        "Figures count ECGs.",
        "The main tables count ECGs too; figures that count each patient once stand beside them.",
        "None on the main tables.",
    )
