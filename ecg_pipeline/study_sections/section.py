"""What all sections of a study file have in common."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Recipe = TypeVar("Recipe")

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """A section of the study file, immutable. Unknown keys and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Of(Section, Generic[Recipe]):
    """Validates a value as a recipe of one type, with the rules of a section."""

    value: Recipe


def valid(kind: type[Recipe], value: Any) -> Recipe:
    """A value as a recipe of one type. Everything wrong with it is a ValidationError."""
    return _Of[kind].model_validate({"value": value}).value
