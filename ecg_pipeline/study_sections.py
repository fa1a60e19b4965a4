"""The sections of a study file, each key with its type: what a paper's methods section says.

Everything in it is identity: it changes results and enters the fingerprint, but for the paths and titles of sites.
Whether the sections agree with each other is for `study_checks`.
"""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.cohorts.tasks import TaskRecipe
from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.explanation.recipes import SaliencyRecipe
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.recipes import DistanceRecipe
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.models.recipes import BeitRecipe, TimmRecipe
from ecg_pipeline.reporting.papers import PAPERS
from ecg_pipeline.signals.filters import FilterRecipe
from ecg_pipeline.storage.files import digest_json, is_file_name
from ecg_pipeline.synthetic.hospital import HospitalSystem
from ecg_pipeline.tokens.recipes import ImportedTokenizer, TokenizerRecipe
from ecg_pipeline.training.recipes import FinetuneRecipe, PretrainRecipe

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """A part of the study file: unknown keys and numbers that are not finite are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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

    role: `internal` sites train and test; `external` sites only validate; a `transfer` site is a new source of data
    that is fine-tuned and tested on its own. pretraining: whether its training patients are pretrained on.
    path may name environment variables; `${ECG_HOME}` is this study's home.
    patients: `private` identifiers are keyed with the hospital's secret; `public` and `synthetic` ones with a fixed
    word, so that everybody gets the same pseudonyms and the same split.
    mrn_system: sites with one numbering of patients share it, so that a patient seen at two of them is one patient.
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


class Pretraining(Section):
    """Masked image modelling: which of the study's models, and how.

    weights: name of a checkpoint file of BEiT's or HeartBEiT's own scripts that is taken over in place of a training.
    """

    model: Name
    recipe: PretrainRecipe = PretrainRecipe()
    weights: str | None = None

    @model_validator(mode="after")
    def _trained_or_taken_over(self) -> "Pretraining":
        if self.weights is None:
            return self
        if not is_file_name(self.weights):
            raise RecipeError(f"weights is the name of a file, without a folder, not `{self.weights}`", "weights")
        if "recipe" in self.model_fields_set:
            sentence = "give weights or a recipe, not both: `recipe: null` drops an inherited one"
            raise RecipeError(sentence, "weights", "recipe")
        return self


def _kind(tokenizer: Any) -> str | None:
    """Which tokenizer is meant; one that does not say is trained."""
    return tokenizer.get("kind", "trained") if isinstance(tokenizer, dict) else getattr(tokenizer, "kind", None)


Tokenizer = Annotated[
    Annotated[ImportedTokenizer, Tag("dalle")] | Annotated[TokenizerRecipe, Tag("trained")], Discriminator(_kind)
]


class Study(Section):
    """A whole study. Sections are named after the packages that they steer.

    paper: the published paper that the study reproduces: its report prints the paper's results and the deviations.
    """

    name: Name
    title: str
    paper: Annotated[str, AfterValidator(_known_paper)] | None = None
    sites: dict[Name, Site]
    ingest: IngestRecipe = IngestRecipe()
    filters: FilterRecipe = FilterRecipe()
    sheet: SheetRecipe = SheetRecipe()
    tokenizer: Tokenizer = TokenizerRecipe()
    split: SplitRecipe = SplitRecipe()
    models: dict[Name, Annotated[BeitRecipe | TimmRecipe, Field(discriminator="family")]]
    pretraining: Pretraining
    tasks: dict[Name, TaskRecipe]
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.01, 0.1, 0.25, 0.5, 1.0)
    finetuning: FinetuneRecipe = FinetuneRecipe()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    image_distance: DistanceRecipe = DistanceRecipe()
    saliency: SaliencyRecipe = SaliencyRecipe()
    synthetic: HospitalSystem | None = None

    @property
    def pretrained_model(self) -> BeitRecipe:
        """The network that is pretrained."""
        recipe = self.models[self.pretraining.model]
        assert isinstance(recipe, BeitRecipe)  # the study was checked for it
        return recipe

    @property
    def pretraining_sites(self) -> tuple[str, ...]:
        """Names of the sites that are pretrained on."""
        return tuple(name for name, site in self.sites.items() if site.pretraining)

    @property
    def is_synthetic(self) -> bool:
        """Whether any of the patients is invented."""
        return any(site.patients == "synthetic" for site in self.sites.values())

    def fingerprint(self) -> str:
        """Sixteen hex digits over everything in the study but the places of its files."""
        return digest_json(identity({name: getattr(self, name) for name in type(self).model_fields}))[:16]


def identity(value: Any) -> Any:
    """What of a study value changes results, as JSON: everything but the paths of sites."""
    if isinstance(value, Site):
        return {name: identity(v) for name, v in value if name not in ("path", "title")}
    if isinstance(value, BaseModel):
        return {name: identity(v) for name, v in value}
    if hasattr(value, "__dataclass_fields__"):
        return identity(asdict(value))
    if isinstance(value, dict):
        return {str(name): identity(v) for name, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [identity(v) for v in value]
    return value
