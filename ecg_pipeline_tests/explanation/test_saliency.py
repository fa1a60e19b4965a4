"""Which ECGs are explained, what is measured of their maps, and the page."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS
from ecg_pipeline.explanation.attribution import full_gradient
from ecg_pipeline.explanation.delineation import recording_windows
from ecg_pipeline.explanation.figures import attribution_strength, overlay, rollout_strength
from ecg_pipeline.explanation.recipes import SaliencyRecipe
from ecg_pipeline.explanation.results import SHARES
from ecg_pipeline.explanation.saliency import choose
from ecg_pipeline.explanation.surfaces import Sheet, Traces
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.models import FAMILIES
from ecg_pipeline.models.load import load_classifier
from ecg_pipeline.reporting.saliency import saliency_section
from ecg_pipeline.signals.filters import FilterRecipe
from ecg_pipeline.signals.windows import cut_site
from ecg_pipeline_tests.explanation.small import CUT, MODELS, explained_by, predictions, section_html

SCORES = {
    "beit": predictions([0.5, 0.9, 0.1, 0.8]),
    "resnet": predictions([0.6, 0.9, 0.2, 0.1]),
    "cnn": predictions([0.6, 0.9, 0.2, 0.5]),
}


@pytest.fixture(scope="module")
def explained(site, models, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return explained_by(models, SaliencyRecipe(ecgs=4), by_model=SCORES, site=site, out=out)


def test_the_best_scored_positives_are_chosen_one_a_patient():
    one = predictions([0.9, 0.8, 0.99, 0.7, 0.1], labels=[1, 1, 0, 1, 1], patients=["a", "a", "b", "c", "d"])
    other = one.with_columns(score=pl.Series([0.5, 0.8, 0.99, 0.0, 0.9]))
    chosen = choose({"one": one, "other": other}, 2)
    assert chosen["ecg_id"].to_list() == ["r1", "r4"]
    assert chosen.select("one", "other").rows() == [(0.8, 0.8), (0.1, 0.9)]
    assert choose({"one": one.with_columns(label=0)}, 2).is_empty()
    assert choose({}, 2).is_empty()


def test_an_ecg_that_a_model_has_not_scored_is_not_chosen():
    one = predictions([0.9, 0.8, 0.7])
    chosen = choose({"one": one, "other": one.filter(pl.col("ecg_id") != "r0")}, 2)
    assert chosen["ecg_id"].to_list() == ["r1", "r2"]


def test_explained_are_the_chosen_with_every_region(explained):
    shares = explained.shares()
    assert shares.schema == SHARES
    assert shares.unique("ecg", maintain_order=True)["ecg_id"].to_list() == ["r1", "r0", "r3", "r2"]
    assert shares.unique(["ecg", "model"], maintain_order=True)["model"].to_list() == list(MODELS) * 4
    sums = shares.group_by("ecg", "model", "kind").agg(pl.col("share", "area_share", "ink_share").sum())
    assert len(sums) == 2 * 3 * 4 - 3 + 4
    images = sums.filter(pl.col("model") != "cnn")
    windows, leads = (images.filter(kind=kind).drop("ecg", "model", "kind") for kind in ("window", "lead"))
    np.testing.assert_allclose(windows.to_numpy(), 1)
    np.testing.assert_allclose(leads["area_share"], 192 / 224)
    assert leads["share"].max() < 1
    assert (shares["error"] < 1e-9).all()


def test_a_model_of_waveforms_has_shares_of_its_leads_and_waves_but_not_of_ink(explained):
    shares = explained.shares().filter(model="cnn")
    assert shares["ink_share"].null_count() == len(shares)
    assert set(shares.filter(kind="lead")["region"]) == set(LEADS)
    # A flat line is the blank example: nothing of it is different.
    found = shares.filter(pl.col("ecg_id") != "r3")
    for kind in ("lead", "window"):
        sums = found.filter(kind=kind).group_by("ecg").agg(pl.col("share", "area_share").sum())
        np.testing.assert_allclose(sums.select("share", "area_share").to_numpy(), 1)
    flat = shares.filter(ecg_id="r3")
    assert flat["share"].null_count() == len(flat) == 12 + 3
    summary = explained.summary().filter(model="cnn")
    assert summary["region"].to_list() == ["qrs", "st", "t", "rest"]
    assert summary["ink_share"].null_count() == 4
    assert (summary["error"] < 1e-9).all()


def test_the_first_window_of_an_ecg_is_explained_and_its_waves_lie_in_its_own_seconds(explained, site, models):
    """Written out for one lead, and for the waves of a recording of 5 s in a window of 8 s."""
    view = site[1]["cnn"]["here"]
    classifier = load_classifier(next(iter(models["cnn"].checkpoints().values())))
    magnitude = np.abs(full_gradient(classifier, view.read_ecgs(["r0"])).maps[0])
    lead = explained.shares().filter(model="cnn", ecg_id="r0", region="V2")
    assert lead["share"].item() == pytest.approx(magnitude[7].sum() / magnitude.sum())
    assert lead["area_share"].item() == pytest.approx(1 / 12)
    area = explained.shares().filter(kind="window", ecg_id="r2").pivot("model", index="region", values="area_share")
    for wave, on_sheet, in_window in area.filter(pl.col("region") != "rest").select("region", "beit", "cnn").rows():
        assert in_window == pytest.approx(5 / 8 * on_sheet, abs=1e-9), wave


def test_what_a_sheet_does_not_show_of_a_waveform_is_counted(explained, site, models):
    """Written out: the map's four derived leads, and what comes after the sheet's 5 s of 8."""
    classifier = load_classifier(next(iter(models["cnn"].checkpoints().values())))
    magnitude = np.abs(full_gradient(classifier, site[1]["cnn"]["here"].read_ecgs(["r0"])).maps[0])
    derived = [lead not in INDEPENDENT_LEADS for lead in LEADS]
    later = np.arange(2000) >= 1250
    wanted = {
        "on_sheet": magnitude[np.ix_(np.invert(derived), ~later)].sum(),
        "derived_leads": magnitude[derived].sum(),
        "later_seconds": magnitude[np.ix_(np.invert(derived), later)].sum(),
    }
    parts = explained.shares().filter(ecg_id="r0", kind="sheet")
    assert set(parts["model"]) == {"cnn"}
    found = dict(parts.select("region", "share").iter_rows())
    assert found == pytest.approx({part: value / magnitude.sum() for part, value in wanted.items()})
    areas = dict(parts.select("region", "area_share").iter_rows())
    assert areas == pytest.approx(
        {"on_sheet": 8 / 12 * 5 / 8, "derived_leads": 4 / 12, "later_seconds": 8 / 12 * 3 / 8}
    )


def test_all_windows_of_an_ecg_are_explained_one_after_the_other(site, models, tmp_path):
    """Written out: r1 is two windows of 5 s, r2 is one. A map is that of both, each over their number."""
    store, _ = site
    several = cut_site(store, replace(CUT, seconds=5.0, crop="all"), tmp_path / "windows")
    assert several.index().group_by("ecg_id").len().sort("ecg_id")["len"].to_list() == [2, 2, 1, 2]
    only = {"cnn": models["cnn"]}
    made = explained_by(
        only, SaliencyRecipe(ecgs=4), by_model=SCORES, site=(store, {"cnn": {"here": several}}), out=tmp_path / "out"
    )
    classifier = load_classifier(next(iter(only["cnn"].checkpoints().values())))
    for ecg_id, seconds in (("r1", 10), ("r2", 5)):
        (examples,) = several.read_examples([ecg_id])
        assert len(examples) == seconds / 5
        found = full_gradient(classifier, examples)
        shares = made.shares().filter(ecg_id=ecg_id)
        assert shares["margin"].unique().to_list() == pytest.approx([found.margin.mean()])
        whole = np.abs(found.maps).sum()
        parts = dict(shares.filter(kind="sheet").select("region", "share").iter_rows())
        shown = [lead in INDEPENDENT_LEADS for lead in LEADS]
        assert parts["on_sheet"] == pytest.approx(np.abs(found.maps[0, shown]).sum() / whole)
        assert parts["later_seconds"] == pytest.approx(np.abs(found.maps[1:, shown]).sum() / whole)
        qrs = shares.filter(kind="window", region="qrs")["area_share"].item()
        masks = recording_windows(store, ecg_id, filters=replace(FilterRecipe(), samples=seconds * 500))
        assert qrs == pytest.approx(masks["qrs"].mean(), abs=1e-9)


def test_an_ecg_without_beats_has_no_windows_but_leads(explained):
    flat = explained.shares().filter(pl.col("ecg_id") == "r3")
    assert set(flat["kind"]) == {"lead", "sheet"}
    assert set(explained.summary()["ecgs"]) == {3}


def test_the_page_holds_its_pictures_and_states_the_weights(explained):
    page = section_html(explained)
    assert page.count("data:image/png;base64,") == 4 == len(explained.figures())
    assert "random initialisation" in page
    assert "QRS complexes" in page
    assert "http" not in page


def test_the_page_has_a_dash_where_there_is_no_ink(explained):
    shares = saliency_section(explained).shares
    assert [row.ink_share is None for row in shares] == [row.model == "cnn" for row in shares]
    assert section_html(explained).count("<td>–</td>") == 4 + 2
    assert section_html(explained).count("Leads that a sheet lacks") == 1


def test_models_of_images_and_waveforms_stand_side_by_side(explained, site, models, tmp_path):
    """A panel of waveforms is as wide as one of an image; rollout makes a second row."""
    sizes = {}
    for names in (("beit",), ("resnet",), ("cnn",), ("resnet", "cnn"), ("resnet", "cnn", "beit")):
        made = explained_by(
            {name: models[name] for name in names},
            SaliencyRecipe(ecgs=1),
            by_model=SCORES,
            site=site,
            out=tmp_path / "_".join(names),
        )
        with Image.open(made.figures()[0]) as picture:
            sizes[names] = picture.size
    assert sizes["cnn",] == sizes["resnet",]
    assert sizes["resnet", "cnn"][0] > 1.8 * sizes["cnn",][0]
    assert sizes["resnet", "cnn"][1] == sizes["cnn",][1]
    assert sizes["resnet", "cnn", "beit"][1] == sizes["beit",][1] > 1.8 * sizes["cnn",][1]
    with Image.open(explained.figures()[0]) as picture:
        assert picture.size == sizes["resnet", "cnn", "beit"]


def test_models_that_are_not_explained_are_named(models, site, tmp_path, monkeypatch):
    monkeypatch.setattr(FAMILIES["timm"], "is_explained", False, raising=False)
    steps = []
    by_model = {name: scores for name, scores in SCORES.items() if name != "resnet"}
    made = explained_by(
        models,
        SaliencyRecipe(ecgs=1),
        by_model=by_model,
        site=site,
        out=tmp_path,
        progress=lambda *step: steps.append(step),
    )
    assert made.not_explained() == ["resnet"]
    assert set(made.shares()["model"]) == {"beit", "cnn"}
    assert steps == [(1, 2), (2, 2)]
    assert saliency_section(made).not_explained == ["resnet"]
    assert "Not explained: resnet" in section_html(made)


def test_no_explained_model_is_said(models, site, tmp_path, monkeypatch):
    monkeypatch.setattr(FAMILIES["timm"], "is_explained", False, raising=False)
    only = {"resnet": models["resnet"]}
    made = explained_by(only, SaliencyRecipe(), by_model=SCORES, site=site, out=tmp_path)
    assert made.shares().is_empty()
    page = section_html(made)
    assert "Not explained: resnet" in page
    assert "positive" not in page


def test_explained_models_leave_nothing_to_name(explained):
    assert (explained.explained(), explained.not_explained()) == (list(MODELS), [])
    assert "Not explained" not in section_html(explained)


def test_no_positive_is_said(models, site, tmp_path):
    none = {name: predictions([0.5], labels=[0]) for name in models}
    made = explained_by(models, SaliencyRecipe(), by_model=none, site=site, out=tmp_path)
    assert made.shares().is_empty()
    assert made.summary().is_empty()
    assert "none is explained" in section_html(made)


def test_the_overlay_darkens_with_strength_and_leaves_paper_white():
    paper = np.full((224, 224), 255, np.uint8)
    lightness = [overlay(paper, strength=np.full((224, 224), s)).mean() for s in (0, 0.1, 0.3, 0.6, 1)]
    assert lightness[0] == 255
    assert (np.diff(lightness) < 0).all()


def test_even_attention_and_no_attribution_have_strength_zero():
    sheet = Sheet(SheetRecipe(), seconds=5)
    assert rollout_strength(np.full((224, 224), 1 / 224**2), sheet).max() < 1e-9
    assert attribution_strength(np.zeros((224, 224)), sheet).max() == 0


def test_the_strength_of_a_window_is_blurred_in_time_only():
    attribution = np.zeros((3, 2000))
    attribution[1, 1000] = -1
    strength = attribution_strength(attribution, Traces(("I", "II", "V1"), samples=2000, sampling_hz=500))
    assert strength[[0, 2]].max() == 0
    assert strength[1, 980] > 0.1
    assert strength[1, :900].max() == 0
