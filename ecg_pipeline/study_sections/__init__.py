"""The sections of a study file, each key with its type: what a paper's methods section says.

All values change results and enter the fingerprint, except the paths and titles of sites. `study_checks` checks that
the sections are consistent with each other.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationInfo,
    field_validator,
)

from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.cohorts.statements import StatementRecipe
from ecg_pipeline.cohorts.tasks import TaskRecipe
from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.explanation.recipes import SaliencyRecipe
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.recipes import DistanceRecipe
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.models import FAMILIES
from ecg_pipeline.models.family import IMAGES, Family, ModelRecipe, windows
from ecg_pipeline.reporting.papers import PAPERS
from ecg_pipeline.reporting.recipes import ComparisonsRecipe, Pair
from ecg_pipeline.signals.filters import FilterRecipe
from ecg_pipeline.signals.windows import WindowRecipe
from ecg_pipeline.storage.files import digest_json
from ecg_pipeline.study_sections.models import Arm, Finetuning, Pretraining, model_section, with_families
from ecg_pipeline.study_sections.section import Name, Section
from ecg_pipeline.synthetic.hospital import HospitalSystem
from ecg_pipeline.texts.recipes import TextRecipe
from ecg_pipeline.tokens.recipes import GRID, ImportedTokenizer, TokenizerRecipe
from ecg_pipeline.training.recipes import FinetuneRecipe, ProbeRecipe


def _known_paper(name: str) -> str:
    if name not in PAPERS:
        raise ValueError(f"there is no paper `{name}`; the papers are {', '.join(PAPERS)}")
    return name


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"there is no format `{name}`; the formats are {', '.join(FORMATS)}")
    return name


class Site(Section):
    """One hospital or data set.

    role: `internal` sites train and test; `external` sites only test; a `transfer` site is another source of data
    that is fine-tuned and tested on its own. pretraining: whether its training patients are used for pretraining.
    path may name environment variables; `${ECG_HOME}` is this study's home.
    patients: `private` identifiers are hashed with the hospital's secret key, `public` and `synthetic` ones with a
    fixed key, so that everybody gets the same pseudonyms and the same split.
    mrn_system: name of the system that numbers the patients. Sites with the same name share their patients.
    """

    title: str
    format: Annotated[str, AfterValidator(_known_format)]
    path: Annotated[str, Field(min_length=1)]
    role: Literal["internal", "external", "transfer"] = "internal"
    pretraining: bool = False
    patients: Literal["private", "public", "synthetic"] = "private"
    site_names: tuple[str, ...] = ()
    mrn_system: str | None = None
    label_tables: tuple[str, ...] = ()


def _kind(tokenizer: Any) -> str | None:
    """The `kind` of a tokenizer section; `trained` by default."""
    return tokenizer.get("kind", "trained") if isinstance(tokenizer, dict) else getattr(tokenizer, "kind", None)


Tokenizer = Annotated[
    Annotated[ImportedTokenizer, Tag("dalle")] | Annotated[TokenizerRecipe, Tag("trained")], Discriminator(_kind)
]


class Study(Section):
    """A whole study. Sections are named after the packages that they configure.

    pretraining: by model. An arm has no pretraining of its own. windows: waveform windows by name.
    paper: the published paper that the study reproduces: its report prints the paper's results and the deviations.
    """

    name: Name
    title: str
    paper: Annotated[str, AfterValidator(_known_paper)] | None = None
    sites: dict[Name, Site]
    ingest: IngestRecipe = IngestRecipe()
    filters: FilterRecipe = FilterRecipe()
    sheet: SheetRecipe = SheetRecipe()
    windows: dict[Name, WindowRecipe] = Field(default_factory=dict)
    tokenizer: Tokenizer = TokenizerRecipe()
    statements: StatementRecipe = StatementRecipe()
    texts: TextRecipe = TextRecipe()
    split: SplitRecipe = SplitRecipe()
    models: dict[Name, Annotated[Any, PlainValidator(model_section)]]
    pretraining: dict[Name, Pretraining] = Field(default_factory=dict)
    tasks: dict[Name, TaskRecipe]
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.01, 0.1, 0.25, 0.5, 1.0)
    finetuning: Finetuning = Finetuning()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    comparisons: ComparisonsRecipe = ComparisonsRecipe()
    image_distance: DistanceRecipe = DistanceRecipe()
    saliency: SaliencyRecipe = SaliencyRecipe()
    synthetic: HospitalSystem | None = None

    @field_validator("pretraining", mode="before")
    @classmethod
    def _name_families(cls, sections: Any, info: ValidationInfo) -> Any:
        """Fill in the family of each pretraining section. If a model is wrong, no section is checked."""
        if not isinstance(sections, dict):
            return sections
        models = info.data.get("models")
        for name in ("model", "recipe", "weights"):
            if name in sections and name not in (models or {}):
                how = f"{{MODEL: {{{'weights: FILE' if name == 'weights' else 'recipe: ...'}}}}}"
                raise RecipeError(f"pretraining is by model: write `pretraining: {how}`", name)
        return {} if models is None else with_families(models, sections)

    @property
    def recipes(self) -> dict[str, ModelRecipe]:
        """The recipe of every model; an arm has that of the model that it is like."""
        own = {name: one for name, one in self.models.items() if not isinstance(one, Arm)}
        targets = {name: one.like if isinstance(one, Arm) else name for name, one in self.models.items()}
        return {name: own[target] for name, target in targets.items() if target in own}

    def starts_from(self, model: str) -> str | None:
        """The model whose pretrained weights a model starts from: its own name, or another's; None for random ones."""
        one = self.models[model]
        if isinstance(one, Arm):
            return one.like if one.pretrained and one.like in self.pretraining else None
        return model if model in self.pretraining else None

    def tuning(self, model: str) -> FinetuneRecipe | ProbeRecipe:
        """How a model is fitted to a task: by fine-tuning, or, of a frozen arm, by a linear probe."""
        if self.probe_of(model):
            return ProbeRecipe(protocol=self.finetuning.recipe.protocol, seeds=self.finetuning.recipe.seeds)
        return self.finetuning.of(model)

    def probe_of(self, model: str) -> str | None:
        """The model whose network a frozen arm probes; None for models that are fine-tuned."""
        one = self.models[model]
        return one.like if isinstance(one, Arm) and one.frozen else None

    def network_of(self, model: str) -> str:
        """The model whose network a model has: its own name, or that of the model that it is an arm of."""
        one = self.models[model]
        return one.like if isinstance(one, Arm) else model

    def from_nothing(self, model: str, among: Sequence[str]) -> str | None:
        """Of some models, the one that differs from a pretrained one in nothing but that it starts from random weights.

        Both are fine-tuned or both frozen; one with the same fine-tuning comes before others.
        """
        if self.starts_from(model) is None:
            return None
        arms = [
            other
            for other in among
            if self.network_of(other) == self.network_of(model)
            and self.starts_from(other) is None
            and bool(self.probe_of(other)) == bool(self.probe_of(model))
        ]
        return next((one for one in arms if self.tuning(one) == self.tuning(model)), next(iter(arms), None))

    @property
    def baseline(self) -> str | None:
        """The model that pretrained ones are compared with; None if no network is without pretraining."""
        untrained = (name for name in self.models if self.network_of(name) == name and self.starts_from(name) is None)
        return self.comparisons.baseline or next(untrained, None)

    def planned_pairs(self, task: str) -> list[Pair]:
        """The planned comparisons of a task: of every pretrained network, fine-tuned whole or, where the task has only
        its probe, frozen."""
        models = self.models_of(task)
        pretrained = [model for model in models if self.starts_from(model) is not None]
        whole = {self.network_of(model) for model in pretrained if not self.probe_of(model)}
        pairs = []
        for model in pretrained:
            if self.probe_of(model) and self.network_of(model) in whole:
                continue
            if (nothing := self.from_nothing(model, models)) is not None:
                pairs.append(Pair(model, nothing, "nothing"))
            if self.baseline in models and self.baseline != nothing:
                pairs.append(Pair(model, self.baseline, "baseline"))
        return pairs

    @property
    def probes(self) -> dict[str, list[str]]:
        """The frozen arms of each model that has any, of those that a task has."""
        found: dict[str, list[str]] = {}
        used = {model for task in self.tasks for model in self.models_of(task)}
        for name in self.models:
            if name in used and (target := self.probe_of(name)) is not None:
                found.setdefault(target, []).append(name)
        return found

    def probe_sites(self, model: str) -> list[str]:
        """The sites at which a task fits a frozen arm of a model."""
        tasks = (task for name, task in self.tasks.items() if set(self.probes[model]) & set(self.models_of(name)))
        used = {site for task in tasks for site in task.sites}
        return [site for site in self.sites if site in used]

    def family(self, model: str) -> Family:
        """The family of a model."""
        return FAMILIES[self.recipes[model].family]

    def models_of(self, task: str) -> list[str]:
        """Names of the models of a task, in the study's order."""
        return [model for model in self.models if model in (self.tasks[task].models or self.models)]

    @property
    def trained_here(self) -> list[str]:
        """Names of the models that are pretrained by the study itself."""
        return [model for model, section in self.pretraining.items() if section.weights is None]

    @property
    def views(self) -> list[str]:
        """Names of the views that the models read, each once."""
        return list(dict.fromkeys(recipe.view for recipe in self.recipes.values()))

    @property
    def has_images(self) -> bool:
        """Whether any model reads images."""
        return IMAGES in self.views

    @property
    def targets(self) -> set[str]:
        """Names of the targets that are pretrained on here."""
        return {target for model in self.trained_here for target in self.family(model).targets}

    def tasks_pretrained_on(self, target: str) -> list[str]:
        """Names of the tasks that a model is trained for which starts from a pretraining here on a target."""
        starts = {model for model in self.trained_here if target in self.family(model).targets}
        return [task for task in self.tasks if any(self.starts_from(model) in starts for model in self.models_of(task))]

    def zero_shot_networks(self, task: str) -> list[str]:
        """The pretrained networks that are tried on a task's prompts: those that its models or their arms start from,
        if their family compares texts with ECGs; none if the task has no prompts."""
        if not self.tasks[task].prompts:
            return []
        starts = dict.fromkeys(self.starts_from(model) for model in self.models_of(task))
        return [start for start in starts if start is not None and self.family(start).has_text_vectors]

    def prompts_for(self, task: str) -> dict[str, dict[str, str]]:
        """What zero-shot networks of a task are asked, by task and language: its own prompts, and as a control those of
        every other task, in the languages that both have."""
        own = self.tasks[task].prompts
        shared = {
            name: {language: one.prompts[language] for language in own if language in one.prompts}
            for name, one in self.tasks.items()
            if name != task
        }
        return {task: dict(own)} | {name: prompts for name, prompts in shared.items() if prompts}

    @property
    def takes_text_tokenizer(self) -> bool:
        """Whether texts are encoded by the tokenizer of a local T5, for pretraining or for prompts alone."""
        is_asked = any(self.zero_shot_networks(task) for task in self.tasks)
        return self.texts.t5 is not None and (is_asked or "text_tokens" in self.targets)

    @property
    def fitted(self) -> set[str]:
        """Names of the assets that are fitted for the targets."""
        return {name for model in self.trained_here for name in self.family(model).fitted}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of an example of each view and target that the study can have; -1 is a length that data decide."""
        return {
            IMAGES: (self.sheet.height_px, self.sheet.width_px),
            **{windows(name): recipe.shape for name, recipe in self.windows.items()},
            "patch_tokens": (GRID**2,),
            "statement_targets": (-1,),
            "text_tokens": (2 + self.texts.longest,),
        }

    @property
    def pretraining_sites(self) -> tuple[str, ...]:
        """Names of the sites whose training patients are used for pretraining."""
        return tuple(name for name, site in self.sites.items() if site.pretraining)

    @property
    def is_synthetic(self) -> bool:
        """Whether any task has synthetic patients. Pretraining may have some in a study of real ones."""
        used = {site for task in self.tasks.values() for site in (*task.sites, *task.external)}
        return any(self.sites[site].patients == "synthetic" for site in used)

    def fingerprint(self) -> str:
        """Digest (SHA-256) of everything in the study that changes results."""
        return digest_json(identity({name: getattr(self, name) for name in type(self).model_fields}))


def identity(value: Any) -> Any:
    """The part of a study value that changes results, as JSON: everything except paths and titles of sites."""
    return plain(value, without=("path", "title"))


def plain(value: Any, without: Sequence[str] = ()) -> Any:
    """A study value as JSON. without: keys of sites to leave out."""
    if isinstance(value, Site):
        return {name: plain(v, without) for name, v in value if name not in without}
    if isinstance(value, BaseModel):
        return {name: plain(v, without) for name, v in value}
    if hasattr(value, "__dataclass_fields__"):
        return plain(asdict(value), without)
    if isinstance(value, dict):
        return {str(name): plain(v, without) for name, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(v, without) for v in value]
    return value
