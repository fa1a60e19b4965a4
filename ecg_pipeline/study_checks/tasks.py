"""Tasks: their names, their sites, the labels that these can give, and who is left to train on."""

from collections.abc import Iterator
from math import ceil

from ecg_pipeline.cohorts.tasks import MeasurementRule, StatementRule, TaskRecipe
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.study_checks.hospital_system import most_training_patients, unplanted
from ecg_pipeline.study_checks.problem import Problem, problem
from ecg_pipeline.study_checks.sites import with_folds
from ecg_pipeline.study_sections import Study
from ecg_pipeline.tokens.recipes import ImportedTokenizer

OF_EVERY_TASK = ("cohort", "saliency")
"""Assets of a task that none of its models may be named after."""


def names(study: Study) -> Iterator[Problem]:
    """Names of tasks and models, from which assets and their inputs get theirs."""
    if not study.tasks:
        yield problem("there is no task, so there is nothing to report: name at least one", "tasks")
    if isinstance(study.tokenizer, ImportedTokenizer) and "image_tokenizer" in study.models:
        yield problem("the tokenizer has this name: choose another for the model", "models.image_tokenizer")
    for model in OF_EVERY_TASK:
        if model in study.models:
            yield problem("every task has something else of this name: choose another for the model", f"models.{model}")
    pairs: dict[str, tuple[str, str]] = {}
    for pair in ((task, model) for task in study.tasks for model in study.models):
        task, model = pairs.setdefault("__".join(pair), pair)
        if (task, model) != pair:
            yield problem(
                f"task `{pair[0]}` with model `{pair[1]}` reads like task `{task}` with model `{model}`: "
                "rename one, without a double underscore",
                f"tasks.{pair[0]}",
                f"models.{pair[1]}",
                f"tasks.{task}",
                f"models.{model}",
            )


def split(study: Study) -> Iterator[Problem]:
    """Folds that somebody must have."""
    has_folds = any(FORMATS[site.format].has_folds for site in study.sites.values())
    if study.split.kind == "ptb_xl_folds" and not has_folds:
        yield problem(f"no site is of format {with_folds()}, so none has folds: split by patient_hash", "split.kind")


def tasks(study: Study) -> Iterator[Problem]:
    """The sites of each task: they exist, have their roles, and bring what its rule needs."""
    for name, task in study.tasks.items():
        for key in ("sites", "external"):
            for site in getattr(task, key):
                place = f"tasks.{name}.{key}"
                if site not in study.sites:
                    yield problem(f"there is no site `{site}`; the sites are {', '.join(study.sites)}", place)
                elif key == "external" and study.sites[site].role != "external":
                    yield problem(
                        f"the role of `{site}` is {study.sites[site].role}: it belongs under `sites`, or its role "
                        "is external",
                        place,
                    )
                elif key == "sites" and study.sites[site].role == "external":
                    yield problem(f"`{site}` is external; it belongs under `external`", place)
                else:
                    yield from _labels(study, name, task, site)


def _labels(study: Study, name: str, task: TaskRecipe, site: str) -> Iterator[Problem]:
    """Whether a site can have labels of a task's rule at all."""
    place, rule, form = f"tasks.{name}.rule", task.rule, study.sites[site].format
    if isinstance(rule, StatementRule):
        statements = FORMATS[form].statements
        system = statements.system if statements else None
        if system != rule.system:
            yield problem(
                f"ECGs of `{site}` carry no statements of system {rule.system}: format {form} has "
                f"{system or 'none'}; change the rule, or leave the site out",
                f"{place}.system",
                place,
                f"tasks.{name}.sites",
                f"sites.{site}.format",
            )
    elif not study.sites[site].label_tables:
        yield problem(
            f"a {rule.kind} stands in a label table, and `{site}` names none: give it label_tables, or leave it out",
            f"sites.{site}.label_tables",
            f"tasks.{name}.{'external' if site in task.external else 'sites'}",
            place,
            f"sites.{site}",
        )
    elif isinstance(rule, MeasurementRule) and not FORMATS[form].dated:
        yield problem(
            f"a measurement counts near the time of the ECG, and format {form} of `{site}` gives none: take another "
            "rule, or leave the site out",
            f"{place}.kind",
            place,
            f"tasks.{name}.sites",
        )
    if study.synthetic and (code := unplanted(study.sites[site], rule)):
        yield problem(
            f"the synthetic hospital system has no {rule.kind} {code}: take another rule, or leave `{site}` out",
            f"{place}.code",
            f"{place}.positive",
            place,
            f"tasks.{name}.sites",
            f"sites.{site}.path",
        )


def fractions(study: Study) -> Iterator[Problem]:
    """Fractions name partitions, in six digits, and each must leave somebody to train on."""
    stated = [("fractions", study.fractions)]
    stated += [(f"tasks.{name}.fractions", task.fractions) for name, task in study.tasks.items() if task.fractions]
    if not study.fractions and not all(task.fractions for task in study.tasks.values()):
        yield problem("there is no fraction to train on: 1.0 is all training patients", "fractions")
    for place, fractions in stated:
        if len({f"{fraction:g}" for fraction in fractions}) < len(fractions):
            yield problem("a fraction is named twice, or two are the same in six digits: leave one out", place)
        for fraction in fractions:
            if float(f"{fraction:g}") != fraction:
                sentence = f"{fraction!r} has more digits than its partition's name: write {fraction:g}"
                yield problem(sentence, place)
    for name, task in study.tasks.items():
        place, fractions = (f"tasks.{name}.fractions", task.fractions) if task.fractions else stated[0]
        patients = most_training_patients(study, task)
        for fraction in fractions:
            if patients is not None and ceil(round(fraction * patients, 9)) < 2:
                yield problem(
                    f"{fraction:g} of at most {patients} training patients is one of them, so there is nobody to tell "
                    f"apart in `{name}`: take a larger fraction, or more synthetic patients",
                    place,
                    "synthetic.patients",
                    "fractions",
                )
