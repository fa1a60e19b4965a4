"""The study: what a paper's methods section says, as one file from which the asset graph is built.

Everything in it is identity: it changes results and enters the fingerprint. Where things run and where they are
written is execution and stands in the environment: `ECG_STUDY` names a built-in study or a file, `ECG_HOME` the folder
that everything is written to.
"""

import os
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.cohorts.tasks import TaskRecipe
from ecg_pipeline.evaluation.recipes import DistanceRecipe, EvaluationRecipe, SaliencyRecipe
from ecg_pipeline.files import digest_json
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.models.recipes import BeitRecipe, TimmRecipe
from ecg_pipeline.records.drop_folder import DropFolder
from ecg_pipeline.records.store import IngestRecipe
from ecg_pipeline.signals.filters import FilterRecipe
from ecg_pipeline.synthetic.hospital import HospitalSystem
from ecg_pipeline.tokens.recipes import ImportedTokenizer, TokenizerRecipe
from ecg_pipeline.training.recipes import FinetuneRecipe, PretrainRecipe

BUILT_IN = Path(__file__).parent / "studies"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class StudyError(ValueError):
    """A study file that cannot be used: says which file, which line, which key, and what is wrong there."""


class Section(BaseModel):
    """A part of the study file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    format: Literal["muse_xml", "ptb_xl", "mimic_iv_ecg", "cinc"]
    path: str
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
        if PurePath(self.weights).name != self.weights:
            raise ValueError(f"weights is the name of a file, without a folder, not `{self.weights}`")
        if "recipe" in self.model_fields_set:
            raise ValueError("give weights or a recipe, not both: `recipe: null` drops an inherited one")
        return self


class Study(Section):
    """A whole study. Sections are named after the packages that they steer."""

    name: Name
    title: str
    sites: dict[Name, Site]
    ingest: IngestRecipe = IngestRecipe()
    filters: FilterRecipe = FilterRecipe()
    sheet: SheetRecipe = SheetRecipe()
    tokenizer: ImportedTokenizer | TokenizerRecipe = TokenizerRecipe()
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

    @model_validator(mode="after")
    def _names_agree(self) -> "Study":
        if not self.pretraining_sites:
            raise ValueError("no site has `pretraining: true`: name at least one internal or transfer site")
        for name, site in self.sites.items():
            if site.role == "external" and site.pretraining:
                raise ValueError(f"sites.{name}: an external site is not pretrained on, or it would not be external")
        if not isinstance(self.models.get(self.pretraining.model), BeitRecipe):
            raise ValueError(f"pretraining.model: `{self.pretraining.model}` is not a model of family `beit`")
        for name, task in self.tasks.items():
            for site in (*task.sites, *task.external):
                if site not in self.sites:
                    raise ValueError(f"tasks.{name}: there is no site `{site}`; the sites are {', '.join(self.sites)}")
            for site in task.external:
                if self.sites[site].role != "external":
                    raise ValueError(f"tasks.{name}.external: the role of `{site}` is {self.sites[site].role}")
            for site in task.sites:
                if self.sites[site].role == "external":
                    raise ValueError(f"tasks.{name}.sites: `{site}` is external; it belongs under `external`")
        return self

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


def built_in_studies() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def study_file(name: str) -> Path:
    """The file of a built-in study's name or of a path."""
    built_in, path = BUILT_IN / f"{name}.yaml", Path(name)
    if built_in.exists():
        return built_in
    if path.is_file():
        return path
    raise StudyError(f"{name}: no such file, and no built-in study; those are {', '.join(built_in_studies())}")


def active_study() -> Study:
    """The study that `ECG_STUDY` names; the demo where it names none."""
    return load_study(study_file(os.environ.get("ECG_STUDY") or "demo"))


def load_study(path: Path) -> Study:
    """Read and check a study file. `extends: NAME` starts from another study, whose values it replaces key by key.

    Errors are one StudyError: file, line, key and what is wrong there, for every wrong key.
    """
    content = _merged(path, ())
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        lines = [_describe(path, problem) for problem in error.errors()]
        raise StudyError("\n".join(dict.fromkeys(lines))) from None


def study_home(study: Study) -> Path:
    """The folder that everything of a study is written to: `ECG_HOME`/name, by default ./ecg_home/name."""
    return Path(os.environ.get("ECG_HOME") or "ecg_home").absolute() / study.name


def drop_folder(study: Study, site: str) -> DropFolder:
    """The drop folder of a site, with the environment variables in its path filled in."""
    place = study.sites[site]
    text = place.path.replace("${ECG_HOME}", str(study_home(study)))
    path = Path(os.path.expandvars(text)).expanduser()
    if "$" in str(path):
        raise StudyError(f"sites.{site}.path: {place.path} names an environment variable that is not set")
    return DropFolder(
        site=site,
        path=path,
        format=place.format,
        site_names=place.site_names,
        mrn_system=place.mrn_system or site,
        label_tables=place.label_tables,
        patients=place.patients,
    )


def _merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise StudyError(f"{path}: `extends` comes back to this file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: this is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: a study is a mapping of sections, this file holds {type(content).__name__}")
    base = content.pop("extends", None)
    if base is None:
        return content
    beside = path.parent / str(base)
    parent = beside if beside.is_file() else study_file(str(base))
    return _overlay(_merged(parent, (*seen, path.resolve())), content)


def _overlay(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping; a null takes a key away."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _overlay(result[key], value)
        else:
            result[key] = value
    return result


def _describe(path: Path, problem: Any) -> str:
    keys = [str(key) for key in problem["loc"]]
    line, known = _line_of(path, keys)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        message = "no such key"
    place = f"{path}:{line}" if known else f"{path}"
    return f"{place}: {'.'.join(keys)}: {message}" if keys else f"{place}: {message}"


def _line_of(path: Path, keys: list[str]) -> tuple[int, bool]:
    """Line of the deepest of `keys` that the file itself holds, and whether it holds any."""
    node, line, known = yaml.compose(path.read_text(encoding="utf-8")), 1, False
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            entry = next(((k, v) for k, v in node.value if k.value == key), None)
            if entry is None:
                continue
            line, known, node = entry[0].start_mark.line + 1, True, entry[1]
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
    return line, known
