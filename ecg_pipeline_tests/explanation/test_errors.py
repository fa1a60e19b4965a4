"""Which errors of each model are explained, and their pictures."""

import polars as pl
import pytest
from PIL import Image

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.explanation.recipes import SaliencyRecipe
from ecg_pipeline.explanation.results import ERRORS
from ecg_pipeline.explanation.saliency import choose_errors
from ecg_pipeline.reporting.saliency import saliency_section
from ecg_pipeline_tests.explanation.small import explained_by, predictions, section_html

LABELS = [1, 0, 1, 0]
SCORES = {
    "beit": predictions([0.1, 0.9, 0.8, 0.2], LABELS),
    "resnet": predictions([0.9, 0.8, 0.9, 0.6], LABELS),
    "cnn": predictions([0.2, 0.3, 0.1, 0.1], LABELS),
}
THRESHOLDS = {model: {0: {"youden": 0.5, "sensitivity_90": 0.0}, 1: {"youden": 2.0}} for model in ("beit", "resnet")}


def test_errors_are_the_most_confident_ones_one_a_patient():
    scored = predictions(
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
        labels=[0, 0, 0, 1, 0, 1, 1, 0, 1],
        patients=["a", "a", "b", "c", "d", "e", "f", "g", "f"],
    )
    wrong = choose_errors(scored, 0.5, 2)
    assert wrong.rows() == [
        ("false_positive", 1, "r0", "here", 0.9),
        ("false_positive", 2, "r2", "here", 0.7),
        ("false_negative", 1, "r8", "here", 0.1),
        ("false_negative", 2, "r5", "here", 0.4),
    ]
    everything = choose_errors(scored, 0.5, 9)
    assert everything["ecg_id"].to_list() == ["r0", "r2", "r4", "r8", "r5"], (
        "a score at the threshold is called positive"
    )
    assert choose_errors(scored, 0.5, 0).is_empty()
    assert choose_errors(scored.filter(label=1), 0.0, 5).is_empty()


@pytest.fixture(scope="module")
def explained(site, models, tmp_path_factory):
    """The second seed must not matter: the network of the first is explained."""
    by_model = {
        model: pl.concat([scores, scores.with_columns(seed=pl.lit(1, pl.Int64), score=1 - pl.col("score"))])
        for model, scores in SCORES.items()
    }
    thresholds = {"cnn": {}, **THRESHOLDS}
    out = tmp_path_factory.mktemp("out")
    recipe = SaliencyRecipe(ecgs=1, errors=5)
    return explained_by(models, recipe, by_model=by_model, site=site, out=out, thresholds=thresholds)


def test_the_errors_of_the_explained_network_are_listed_with_its_numbers(explained):
    errors = explained.errors()
    assert errors.schema == ERRORS
    assert errors.select("model", "kind", "place", "ecg_id", "score", "threshold").rows() == [
        ("beit", "false_positive", 1, "r1", 0.9, 0.5),
        ("beit", "false_negative", 1, "r0", 0.1, 0.5),
        ("resnet", "false_positive", 1, "r1", 0.8, 0.5),
        ("resnet", "false_positive", 2, "r3", 0.6, 0.5),
    ]
    assert (errors["error"] < 1e-9 * errors["margin"].abs() + 1e-12).all()
    assert explained.shares()["ecg"].unique().to_list() == [1], "errors are not among the ECGs of the shares"


def test_each_kind_of_a_models_errors_is_a_picture_of_the_same_kind(explained):
    titles = [picture.title for picture in explained.pictures()]
    assert titles == ["ECG 1", "false positives of beit", "false negatives of beit", "false positives of resnet"]
    sizes = {}
    for picture in explained.pictures():
        with Image.open(picture.path) as image:
            sizes[picture.title] = image.size
    assert sizes["false positives of resnet"][0] > 1.8 * sizes["false positives of beit"][0], "side by side"
    assert sizes["false positives of beit"][1] == sizes["ECG 1"][1], "with the second view"


def test_the_page_shows_errors_and_says_who_has_no_operating_point(explained):
    page = section_html(explained)
    assert page.count("data:image/png;base64,") == 4
    assert "beit: the 1 most confident false positive, one a patient" in page
    assert "resnet: the 2 most confident false positives" in page
    assert "Without an operating point, so without errors to explain: cnn." in page
    assert page.count("sensitivity + specificity") == 1


def test_a_page_over_several_tasks_has_the_shares_and_says_where_the_pictures_are(explained):
    page = section_html(explained, with_pictures=False)
    assert "data:image" not in page
    assert "The page of this task alone has 4 pictures" in page
    assert saliency_section(explained, with_pictures=False).shares == saliency_section(explained).shares
    assert "mean over 1 ECGs" in page


def test_no_errors_are_explained_where_none_are_asked_for(site, models, tmp_path):
    only = {"resnet": models["resnet"]}
    recipe = SaliencyRecipe(ecgs=1, errors=0)
    for name, thresholds in (("with", THRESHOLDS), ("without", None)):
        made = explained_by(only, recipe, by_model=SCORES, site=site, out=tmp_path / name, thresholds=thresholds)
        section = saliency_section(made)
        assert (section.errors, section.without_threshold) == ([], [])
        assert len(made.pictures()) == 1
    with pytest.raises(RecipeError, match="at least no error"):
        SaliencyRecipe(errors=-1)


def test_errors_are_explained_where_no_ecg_is_positive(site, models, tmp_path):
    only, none = {"resnet": models["resnet"]}, {"resnet": predictions([0.9, 0.1], labels=[0, 0])}
    made = explained_by(only, SaliencyRecipe(), by_model=none, site=site, out=tmp_path, thresholds=THRESHOLDS)
    assert made.shares().is_empty()
    assert made.errors()["ecg_id"].to_list() == ["r0"]
    page = section_html(made)
    assert "none is explained" in page
    assert page.count("data:image/png;base64,") == 1
