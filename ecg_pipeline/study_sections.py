"""The sections of a study file, each key with its type: what a paper's methods section says.

All values change results and enter the fingerprint, except the paths and titles of sites. `study_checks` checks that
the sections are consistent with each other.
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
    """A section of the study file, immutable. Unknown keys and numbers that are not finite are errors."""

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


class Pretraining(Section):
    """Masked image modelling: which of the study's models, and how.

    weights: name of a checkpoint file of BEiT's or HeartBEiT's own scripts, imported instead of training.
    """

    model: Name
    recipe: PretrainRecipe = PretrainRecipe()
    weights: str | None = None

    @model_validator(mode="after")
    def _trained_or_imported(self) -> "Pretraining":
        if self.weights is None:
            return self
        if not is_file_name(self.weights):
            raise RecipeError(f"weights must be a file name without a folder, not `{self.weights}`", "weights")
        if "recipe" in self.model_fields_set:
            sentence = "give weights or a recipe, not both: `recipe: null` removes an inherited recipe"
            raise RecipeError(sentence, "weights", "recipe")
        return self


def _kind(tokenizer: Any) -> str | None:
    """The `kind` of a tokenizer section; `trained` by default."""
    return tokenizer.get("kind", "trained") if isinstance(tokenizer, dict) else getattr(tokenizer, "kind", None)


Tokenizer = Annotated[
    Annotated[ImportedTokenizer, Tag("dalle")] | Annotated[TokenizerRecipe, Tag("trained")], Discriminator(_kind)
]


class Study(Section):
    """A whole study. Sections are named after the packages that they configure.

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
        assert isinstance(recipe, BeitRecipe)  # see study_checks.networks.pretraining
        return recipe

    @property
    def pretraining_sites(self) -> tuple[str, ...]:
        """Names of the sites whose training patients are used for pretraining."""
        return tuple(name for name, site in self.sites.items() if site.pretraining)

    @property
    def is_synthetic(self) -> bool:
        """Whether any site has synthetic patients."""
        return any(site.patients == "synthetic" for site in self.sites.values())

    def fingerprint(self) -> str:
        """Digest of everything in the study that changes results, 16 hex digits."""
        return digest_json(identity({name: getattr(self, name) for name in type(self).model_fields}))[:16]


def identity(value: Any) -> Any:
    """The part of a study value that changes results, as JSON: everything except paths and titles of sites."""
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
