"""Checks of tasks: names, sites, labels, and training patients."""

from collections.abc import Iterator, Sequence
from math import ceil

from ecg_pipeline.cohorts.tasks import MeasurementRule, StatementRule, TaskRecipe
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.formats.format import Statements
from ecg_pipeline.study_checks.hospital_system import missing_codes, most_training_patients
from ecg_pipeline.study_checks.problem import Problem, problem
from ecg_pipeline.study_checks.sites import formats_with_folds
from ecg_pipeline.study_sections import Study

RESERVED_NAMES = ("cohort", "test_set", "saliency", "report", "pretrained")
"""Names of a task's own assets and report inputs, which models must not have."""

PREFIXES = ("published", "waveform_windows")
"""First parts of the keys of other assets, which tasks and models must not be called."""


def names(study: Study) -> Iterator[Problem]:
    """Check that names of tasks and models give unique names of assets and inputs."""
    if not study.tasks:
        yield problem("there is no task: add at least one", "tasks")
    if not study.models:
        yield problem("there is no model: add at least one", "models")
    for section in ("tasks", "models"):
        for name in PREFIXES:
            if name in getattr(study, section):
                yield problem(f"other assets are called `{name}`: choose another name", f"{section}.{name}")
    for model in study.fitted:
        if model in study.models:
            yield problem("a fitted asset has this name: choose another for the model", f"models.{model}")
    for model in RESERVED_NAMES:
        if model in study.models:
            yield problem("every task has an asset of this name: choose another for the model", f"models.{model}")
    pairs: dict[str, tuple[str, str]] = {}
    for pair in ((task, model) for task in study.tasks for model in study.models_of(task)):
        task, model = pairs.setdefault("__".join(pair), pair)
        if (task, model) != pair:
            yield problem(
                f"task `{pair[0]}` with model `{pair[1]}` gets the same name as task `{task}` with model "
                f"`{model}`: rename one, without a double underscore",
                f"tasks.{pair[0]}",
                f"models.{pair[1]}",
                f"tasks.{task}",
                f"models.{model}",
            )


def statements(study: Study) -> Iterator[Problem]:
    """Check that ECGs of a pretraining site carry statements, if statements are pretrained on, and that those left out
    are some of a closed list, if all sites have one."""
    if "statement_targets" not in study.targets:
        return
    carried = [one for site in study.pretraining_sites for one in FORMATS[study.sites[site].format].statements]
    if study.pretraining_sites and not carried:
        yield problem(
            "statements are pretrained on, but no pretraining site has any: "
            f"use one of format {', '.join(name for name, each in FORMATS.items() if each.statements)}",
            "sites",
        )
    if carried and all(one.codes for one in carried):
        known = {code for one in carried if one.codes for code in one.codes()}
        if unknown := [code for code in study.statements.exclude if code not in known]:
            yield problem(f"no pretraining site can state {', '.join(unknown)}", "statements.exclude")
    for one in {one.system: one for one in carried}.values():
        yield from _replaced_codes(one, study.statements.exclude, "statements.exclude")


def _replaced_codes(statements: Statements, codes: Sequence[str], *keys: str) -> Iterator[Problem]:
    """Check that none of the codes is one that is read as another."""
    for code in codes:
        if code in statements.equal:
            yield problem(f"{statements.system} {code} is read as {statements.equal[code]}: write that", *keys)


def texts(study: Study) -> Iterator[Problem]:
    """Check that ECGs of a pretraining site come with texts, if texts are pretrained on."""
    if "text_tokens" not in study.targets or not study.pretraining_sites:
        return
    if not any(FORMATS[study.sites[site].format].texts for site in study.pretraining_sites):
        yield problem(
            "texts are pretrained on, but no pretraining site has any: "
            f"use one of format {', '.join(name for name, each in FORMATS.items() if each.texts)}",
            "sites",
        )


def prompts(study: Study) -> Iterator[Problem]:
    """Check that a pretrained network can read the prompts of each task, and that its tokenizer is known."""
    readers = [model for model in study.pretraining if study.family(model).has_text_vectors]
    for name, task in study.tasks.items():
        if not task.prompts:
            continue
        networks = study.zero_shot_networks(name)
        if not networks:
            which = f"add one of {', '.join(readers)} to its models" if readers else "pretrain one"
            yield problem(
                f"no model of the task starts from a pretraining that reads texts: {which}, or remove the prompts",
                f"tasks.{name}.prompts",
                f"tasks.{name}.models",
            )
        if study.texts.t5 is None:
            for network in (one for one in networks if one not in study.trained_here):
                yield problem(
                    f"`{network}` is taken over, and its tokenizer is needed for the prompts of `{name}`: name the T5 "
                    "that it belongs to in `texts.t5`",
                    "texts.t5",
                    f"tasks.{name}.prompts",
                    f"pretraining.{network}.weights",
                )


def split(study: Study) -> Iterator[Problem]:
    """Check that `ptb_xl_folds` is only used if a site has folds."""
    has_folds = any(FORMATS[site.format].has_folds for site in study.sites.values())
    if study.split.kind == "ptb_xl_folds" and not has_folds:
        sentence = f"no site is of format {formats_with_folds()}, so none has folds: use `kind: patient_hash`"
        yield problem(sentence, "split.kind")


def tasks(study: Study) -> Iterator[Problem]:
    """Check that the sites of each task exist, have the right role, and have labels for its rule."""
    for name, task in study.tasks.items():
        for model in task.models:
            if model not in study.models:
                sentence = f"there is no model `{model}`; the models are {', '.join(study.models)}"
                yield problem(sentence, f"tasks.{name}.models", f"models.{model}")
        for key in ("sites", "external"):
            for site in getattr(task, key):
                place = f"tasks.{name}.{key}"
                if site not in study.sites:
                    yield problem(f"there is no site `{site}`; the sites are {', '.join(study.sites)}", place)
                elif key == "external" and study.sites[site].role != "external":
                    yield problem(
                        f"the role of `{site}` is {study.sites[site].role}: move it to `sites`, or set its role "
                        "to external",
                        place,
                    )
                elif key == "sites" and study.sites[site].role == "external":
                    yield problem(f"the role of `{site}` is external: move it to `external`", place)
                else:
                    yield from _labels(study, name, task, site)


def _labels(study: Study, name: str, task: TaskRecipe, site: str) -> Iterator[Problem]:
    """Check that a site can have labels for a task's rule."""
    place, rule, form = f"tasks.{name}.rule", task.rule, study.sites[site].format
    if isinstance(rule, StatementRule):
        by_system = {one.system: one for one in FORMATS[form].statements}
        statements = by_system.get(rule.system)
        if statements is None:
            yield problem(
                f"ECGs of `{site}` carry no statements of system {rule.system}: format {form} has "
                f"{' and '.join(by_system) or 'none'}; change the rule, or remove the site",
                f"{place}.system",
                place,
                f"tasks.{name}.sites",
                f"sites.{site}.format",
            )
        else:
            for key in ("positive", "exclude"):
                codes = getattr(rule, key)
                if statements.codes and (unknown := [code for code in codes if code not in statements.codes()]):
                    yield problem(
                        f"system {rule.system} has no statement {', '.join(unknown)}", f"{place}.{key}", place
                    )
                yield from _replaced_codes(statements, codes, f"{place}.{key}", place)
    elif not study.sites[site].label_tables:
        yield problem(
            f"a {rule.kind} needs a label table, and `{site}` has none: add label_tables, or remove the site",
            f"sites.{site}.label_tables",
            f"tasks.{name}.{'external' if site in task.external else 'sites'}",
            place,
            f"sites.{site}",
        )
    elif isinstance(rule, MeasurementRule) and not FORMATS[form].dated:
        yield problem(
            f"a measurement must be close in time to the ECG, and ECGs of format {form} of `{site}` have no time: "
            "use another rule, or remove the site",
            f"{place}.kind",
            place,
            f"tasks.{name}.sites",
        )
    if study.synthetic and (code := missing_codes(study.sites[site], rule)):
        yield problem(
            f"the synthetic hospital system has no {rule.kind} {code}: use another rule, or remove `{site}`",
            f"{place}.code",
            f"{place}.positive",
            place,
            f"tasks.{name}.sites",
            f"sites.{site}.path",
        )


def fractions(study: Study) -> Iterator[Problem]:
    """Check that fractions give unique partition keys and at least two training patients."""
    stated = [("fractions", study.fractions)]
    stated += [(f"tasks.{name}.fractions", task.fractions) for name, task in study.tasks.items() if task.fractions]
    if not study.fractions and not all(task.fractions for task in study.tasks.values()):
        yield problem("there is no fraction: add one; 1.0 is all training patients", "fractions")
    for place, fractions in stated:
        if len({f"{fraction:g}" for fraction in fractions}) < len(fractions):
            yield problem("two fractions are equal in six digits: remove one", place)
        for fraction in fractions:
            if float(f"{fraction:g}") != fraction:
                sentence = f"{fraction!r} has more than six digits, the length of a partition key: write {fraction:g}"
                yield problem(sentence, place)
    for name, task in study.tasks.items():
        place, fractions = (f"tasks.{name}.fractions", task.fractions) if task.fractions else stated[0]
        patients = most_training_patients(study, task)
        for fraction in fractions:
            if patients is not None and ceil(round(fraction * patients, 9)) < 2:
                yield problem(
                    f"{fraction:g} of at most {patients} training patients is one patient, too few to train "
                    f"`{name}`: use a larger fraction, or more synthetic patients",
                    place,
                    "synthetic.patients",
                    "fractions",
                )


def comparisons(study: Study) -> Iterator[Problem]:
    """Check that planned comparisons name models, fractions and tasks that exist."""
    recipe, used = study.comparisons, set(study.fractions).union(*(task.fractions for task in study.tasks.values()))
    if (baseline := recipe.baseline) is not None and baseline not in study.models:
        sentence = f"there is no model `{baseline}`; the models are {', '.join(study.models)}"
        yield problem(sentence, "comparisons.baseline", f"models.{baseline}")
    elif baseline is not None and study.starts_from(baseline) is not None:
        sentence = f"`{baseline}` is pretrained: name a model that is not, which says what pretraining is worth"
        yield problem(sentence, "comparisons.baseline", f"models.{baseline}")
    for fraction in recipe.fractions:
        if fraction not in used:
            yield problem(f"no task is trained on {fraction:g} of its patients", "comparisons.fractions", "fractions")
    for task in recipe.mean_of:
        if task not in study.tasks:
            sentence = f"there is no task `{task}`; the tasks are {', '.join(study.tasks)}"
            yield problem(sentence, "comparisons.mean_of", f"tasks.{task}")
