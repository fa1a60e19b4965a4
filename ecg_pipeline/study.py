"""Reads the study file: what a paper's methods section says, and what the asset graph is built from.

The study file holds what changes results. Where things run and where outputs are written is set by environment
variables: `ECG_STUDY` is a built-in study or a file, `ECG_HOME` the folder that everything is written to.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule
from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.ingest.drop_folder import DropFolder
from ecg_pipeline.ingest.pseudonyms import PseudonymKey, fixed_key, load_key
from ecg_pipeline.ingest.withdrawals import Register
from ecg_pipeline.signals.window_filters import BandPass, NotchBandPassMedian
from ecg_pipeline.study_checks import problems
from ecg_pipeline.study_sections import Study, plain
from ecg_pipeline.study_sections import identity as identity

BUILT_IN = Path(__file__).parent / "studies"

KINDS = {
    ("tasks", "rule"): {rule.__name__: rule.kind for rule in (MeasurementRule, DiagnosisRule, StatementRule)},
    ("windows", "filter"): {each.__name__: each.kind for each in (BandPass, NotchBandPassMedian)},
}
"""Sections and keys whose value has a `kind`, and the kinds by the class name that pydantic puts into error
locations."""

Keys = tuple[str, ...]


class StudyError(ValueError):
    """A study file is invalid. The message gives file, line, key and what is wrong."""


def built_in_studies() -> list[str]:
    """Names of the studies in the package."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def study_file(name: str) -> Path:
    """Path of a study file. name: of a built-in study, or a path."""
    built_in, path = BUILT_IN / f"{name}.yaml", Path(name)
    if built_in.exists():
        return built_in
    if path.is_file():
        return path
    known = ", ".join(built_in_studies())
    raise StudyError(f"{name}: no such file or built-in study; the built-in studies are {known}")


def active_study() -> Study:
    """The study named by `ECG_STUDY`, by default the demo."""
    return load_study(study_file(os.environ.get("ECG_STUDY") or "demo"))


def load_study(path: Path) -> Study:
    """Read and check a study file. `extends: NAME` starts from another study, whose values it replaces key by key.

    All errors are raised as one StudyError with a line for each: file, line, key and what is wrong. Whether sections
    are consistent is checked only if each of them is valid.
    """
    files = _files(path)
    content = reduce(_overlay, (file.content for file in reversed(files)))
    if lines := [*_repeated_keys(files), *_values_without_kind(files, content)]:
        raise StudyError("\n".join(lines))
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        relevant = [wrong for wrong in error.errors() if not _is_of_another_kind(content, wrong["loc"])]
        lines = [_describe(files, content, wrong) for wrong in relevant]
        raise StudyError("\n".join(dict.fromkeys(lines))) from None
    lines = [_line(files, [tuple(key.split(".")) for key in found.keys], found.sentence) for found in problems(study)]
    if lines:
        raise StudyError("\n".join(dict.fromkeys(lines)))
    return study


def study_content(study: Study) -> dict[str, Any]:
    """A study as the content of one study file that extends no other: `load_study` reads the same study from it."""
    content = plain(study)
    for section in content["pretraining"].values():
        del section["family"]
    tuning = content["finetuning"]
    content["finetuning"] = {**tuning["recipe"], "models": tuning["models"]}
    return _without_nulls(content)


def study_home(study: Study) -> Path:
    """Home folder of a study, for all its outputs: `ECG_HOME`/name, by default ./ecg_home/name."""
    return Path(os.environ.get("ECG_HOME") or "ecg_home").absolute() / study.name


def drop_folder(study: Study, site: str) -> DropFolder:
    """The drop folder of a site, with the environment variables in its path filled in."""
    section = study.sites[site]
    text = section.path.replace("${ECG_HOME}", str(study_home(study)))
    path = Path(os.path.expandvars(text)).expanduser()
    if "$" in str(path):
        raise StudyError(f"sites.{site}.path: {section.path} uses an environment variable that is not set")
    return DropFolder(
        site=site,
        path=path,
        format=section.format,
        site_names=section.site_names,
        mrn_system=section.mrn_system or site,
        label_tables=section.label_tables,
        patients=section.patients,
        withdrawals=Register(study_home(study)).of_site(site),
    )


def site_key(study: Study, site: str, home: Path | None = None) -> PseudonymKey:
    """The key of a site's pseudonyms: the hospital's secret key, or a fixed one for public and synthetic patients.

    home: the study's home, if it was moved.
    """
    patients = study.sites[site].patients
    return load_key(home or study_home(study)) if patients == "private" else fixed_key(patients)


@dataclass(frozen=True)
class _File:
    """One study file: its keys without `extends`, and its root YAML node, which has line numbers."""

    path: Path
    content: dict[str, Any]
    root: yaml.Node | None


def _files(path: Path, seen: tuple[Path, ...] = ()) -> list[_File]:
    """A study file, followed by those that it extends."""
    if path.resolve() in seen:
        raise StudyError(f"{path}: this file extends itself, directly or through other files")
    try:
        text = path.read_text(encoding="utf-8")
        content, root = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: a study file must be a mapping of sections, not {type(content).__name__}")
    base = content.pop("extends", None)
    own = _File(path, content, root)
    if base is None:
        return [own]
    beside = path.parent / str(base)
    parent = beside if beside.is_file() else study_file(str(base))
    return [own, *_files(parent, (*seen, path.resolve()))]


def _overlay(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` updated recursively with `changes`; a null removes a key."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            inherited = result.get(key)
            result[key] = _overlay(inherited if isinstance(inherited, dict) else {}, value)
        else:
            result[key] = value
    return result


def _without_nulls(value: Any) -> Any:
    """A value without the keys that are null: in a study file a null is an absent key."""
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return value


def _repeated_keys(files: Sequence[_File]) -> Iterator[str]:
    """A message for each duplicate key of a mapping, of which YAML would silently use the last."""
    for file in files:
        queue, visited = [file.root], set[int]()
        while queue:
            node = queue.pop(0)
            if id(node) in visited:
                continue
            visited.add(id(node))
            if isinstance(node, yaml.SequenceNode):
                queue += node.value
            elif isinstance(node, yaml.MappingNode):
                queue += [value for _, value in node.value]
                lines: dict[str, int] = {}
                for name, line in ((str(key.value), key.start_mark.line + 1) for key, _ in node.value):
                    if name in lines:
                        yield f"{file.path}:{line}: {name}: duplicate of the key in line {lines[name]}: remove one"
                    lines[name] = line


def _values_without_kind(files: Sequence[_File], content: dict[str, Any]) -> Iterator[str]:
    """A message for each rule or filter without a valid `kind`, because several kinds could match it."""
    for (section, key), kinds in KINDS.items():
        sections = content.get(section)
        for name, one in sections.items() if isinstance(sections, dict) else ():
            value = one.get(key) if isinstance(one, dict) else None
            if isinstance(value, dict) and value.get("kind") not in kinds.values():
                place = (section, str(name), key)
                yield _line(files, [(*place, "kind"), place], f"a {key} needs a kind: {', '.join(kinds.values())}")


def _is_of_another_kind(content: Any, loc: Sequence[str | int]) -> bool:
    """Whether an error location belongs to a kind of rule or filter other than the one in the file."""
    match loc:
        case [section, name, key, recipe, *_] if recipe in (kinds := KINDS.get((str(section), str(key)), {})):
            value = content[section].get(name, {}).get(key)
            return isinstance(value, dict) and value["kind"] != kinds[recipe]
    return False


def _describe(files: Sequence[_File], content: dict[str, Any], wrong: Any) -> str:
    keys = _in_content(content, wrong["loc"], is_missing=wrong["type"] in ("missing", "missing_argument"))
    message = wrong["msg"].removeprefix("Value error, ")
    if wrong["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        message = "no such key"
    cause = wrong.get("ctx", {}).get("error")
    places = [(*keys, *key.split(".")) for key in cause.keys] if isinstance(cause, RecipeError) else []
    return _line(files, [*places, keys], message)


def _in_content(content: Any, loc: Sequence[str | int], is_missing: bool) -> Keys:
    """An error location as keys of the file: without the class names that pydantic adds for unions."""
    keys: list[str] = []
    for place, key in enumerate(loc):
        held: Any = dict(enumerate(content)) if isinstance(content, list) else content
        if isinstance(held, dict) and key in held:
            content = held[key]
            keys.append(str(key))
        elif is_missing and place == len(loc) - 1:
            keys.append(str(key))
    return tuple(keys)


def _line(files: Sequence[_File], places: Sequence[Keys], message: str) -> str:
    """Format an error as `file:line: key: message`.

    places: candidate keys, most likely first. The first file that contains one of them completely is named; if none
    does, the first file and the line of the deepest key of the first place that it contains.
    """
    for file in files:
        for keys in places:
            line, depth = _line_of(file, keys)
            if depth == len(keys) > 0:
                return f"{file.path}:{line}: {'.'.join(keys)}: {message}"
    line, depth = _line_of(files[0], places[0])
    where = f"{files[0].path}:{line}" if depth else f"{files[0].path}"
    return f"{where}: {'.'.join(places[0])}: {message}" if places[0] else f"{where}: {message}"


def _line_of(file: _File, keys: Keys) -> tuple[int, int]:
    """Line of the deepest of the nested `keys` that a file contains, and how many of them it contains."""
    node, line = file.root, 1
    for depth, key in enumerate(keys):
        if isinstance(node, yaml.MappingNode):
            entry = next(((k, v) for k, v in node.value if k.value == key), None)
            if entry is None:
                return line, depth
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        else:
            return line, depth
    return line, len(keys)
