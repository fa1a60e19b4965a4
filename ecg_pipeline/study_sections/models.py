"""The sections of a study file on models: their networks, how they are pretrained, and how they are fine-tuned."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models import FAMILIES
from ecg_pipeline.storage.files import is_file_name
from ecg_pipeline.study_sections.section import Name, Section, valid
from ecg_pipeline.training.recipes import FinetuneRecipe, PretrainRecipe


class Arm(Section):
    """A model with the network of another one.

    pretrained: whether it starts from that model's pretrained weights, if it has any. frozen: whether these weights, or
    random ones, stay as they are; then a linear probe, a logistic regression on their features, is fitted.
    """

    like: Name
    pretrained: bool = True
    frozen: bool = False


def model_section(value: Any) -> Any:
    """A model section: a recipe of the family that it names, or an arm of another model."""
    if isinstance(value, Arm) or hasattr(value, "__dataclass_fields__"):
        return value
    families = ", ".join(FAMILIES)
    if not isinstance(value, dict) or not value.keys() & {"family", "like"}:
        raise RecipeError(f"a model needs `family`, one of {families}, or `like`, the name of another model")
    if "family" in value and "like" in value:
        sentence = "give a family or `like`, not both: `family: null`, or `like: null`, removes an inherited key"
        raise RecipeError(sentence, "like", "family")
    if "like" in value:
        return Arm.model_validate(value)
    name = value["family"]
    if name == "beit":
        raise RecipeError("the family `beit` is now called `heartbeit`: write `family: heartbeit`", "family")
    if not isinstance(name, str) or name not in FAMILIES:
        raise RecipeError(f"there is no family `{name}`; the families are {families}", "family")
    if "weights" in value:
        sentence = (
            "weights are now named under `pretraining`: write `pretraining: {MODEL: {weights: FILE}}`, or nothing for "
            "random initialisation"
        )
        raise RecipeError(sentence, "weights")
    return valid(FAMILIES[name].recipe, value)


class Pretraining(Section):
    """How one model is pretrained: by its family's objective, or elsewhere.

    family: of the model, filled in. recipe: of the objective. weights: name of a file of published weights, taken over
    instead of training.
    """

    family: str
    recipe: SerializeAsAny[PretrainRecipe] | None = None
    weights: str | None = None

    @field_validator("recipe", mode="plain")
    @classmethod
    def _of_family(cls, value: Any, info: ValidationInfo) -> PretrainRecipe | None:
        kind = FAMILIES[info.data["family"]].pretraining
        if value is None or kind is None:
            return None
        if isinstance(value, dict) and "seed" in value:
            raise RecipeError(f"pretraining has a list of seeds now: write `seeds: [{value['seed']}]`", "seed")
        return valid(kind, value)

    @model_validator(mode="before")
    @classmethod
    def _trained_or_published(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        family = FAMILIES[given["family"]]
        recipe, weights = given.get("recipe"), given.get("weights")
        if weights is None:
            if family.pretraining is None:
                remedy = "name a file as `weights`" if family.has_published_weights else "remove the section"
                sentence = f"the family `{given['family']}` has no pretraining of its own: {remedy}"
                raise RecipeError(sentence, "recipe", "weights")
            return {**given, "recipe": {} if recipe is None else recipe}
        if not family.has_published_weights:
            raise RecipeError(f"the family `{given['family']}` reads no published weights", "weights")
        if not is_file_name(str(weights)):
            raise RecipeError(f"weights must be a file name without a folder, not `{weights}`", "weights")
        if recipe is not None:
            sentence = "give weights or a recipe, not both: `recipe: null` removes an inherited recipe"
            raise RecipeError(sentence, "weights", "recipe")
        return given


class FinetuneOverride(Section):
    """What one model changes of the study's fine-tuning; the keys of `FinetuneRecipe` that are None it keeps."""

    epochs: int | None = None
    batch: int | None = None
    max_learning_rate: float | None = None
    weight_decay: float | None = None
    layer_decay: float | None = None
    time_shift: float | None = None
    optimiser: Literal["adamw", "adam"] | None = None


class Finetuning(Section):
    """Fine-tuning: the recipe of all models, and under `models` what some of them change."""

    recipe: FinetuneRecipe = FinetuneRecipe()
    models: dict[Name, FinetuneOverride] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _recipe_of_other_keys(cls, given: Any) -> Any:
        """A study file writes the recipe's keys beside `models`."""
        if not isinstance(given, dict) or isinstance(given.get("recipe"), FinetuneRecipe):
            return given
        recipe = {key: value for key, value in given.items() if key != "models"}
        return {"recipe": valid(FinetuneRecipe, recipe), "models": given.get("models") or {}}

    @model_validator(mode="after")
    def _overrides_fit(self) -> "Finetuning":
        for model in self.models:
            try:
                self.of(model)
            except RecipeError as error:
                raise RecipeError(str(error), *(f"models.{model}.{key}" for key in error.keys)) from None
        return self

    def of(self, model: str) -> FinetuneRecipe:
        """The recipe of one model."""
        changes = self.models.get(model, FinetuneOverride())
        return replace(self.recipe, **{key: value for key, value in changes if value is not None})


def with_families(models: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, Any]:
    """The pretraining sections, each with the family of its model."""
    found = {}
    for name, section in sections.items():
        model = models.get(name)
        if model is None:
            sentence = (
                f"there is no model `{name}` to pretrain; the models are {', '.join(models)} "
                f"(`{name}: null` removes an inherited pretraining)"
            )
            raise RecipeError(sentence, name)
        if isinstance(model, Arm):
            sentence = f"`{name}` is an arm of `{model.like}`: pretrain that one, which an arm starts from"
            raise RecipeError(sentence, name)
        if isinstance(section, dict):
            if "family" in section:
                raise RecipeError("no such key: the family is that of the model", f"{name}.family")
            section = {**section, "family": model.family}
        found[name] = section
    return found
