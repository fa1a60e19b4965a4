"""Which ECGs are explained, what is measured of their maps, and the page."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ecg_pipeline.explanation.figures import attribution_strength, overlay, rollout_strength
from ecg_pipeline.explanation.recipes import SaliencyRecipe
from ecg_pipeline.explanation.saliency import choose, explain, lead_masks, share, window_masks
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.render import render_many
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.checkpoints import FinetunedModel, seed_folder
from ecg_pipeline.models.family import build_classifier, classifier_config
from ecg_pipeline.models.recipes import BeitRecipe, TimmRecipe
from ecg_pipeline.models.weights import save_checkpoint
from ecg_pipeline.reporting.environment import environment
from ecg_pipeline.reporting.outline import HEADINGS
from ecg_pipeline.reporting.saliency import saliency_section
from ecg_pipeline.signals.filters import FilteredWaveforms, FilterRecipe, clean
from ecg_pipeline.storage.shards import write_index, write_shard
from ecg_pipeline.synthetic.heart import sample_heart, sample_person, simulate

MODELS = {"beit": BeitRecipe(width=32, depth=1, heads=2), "resnet": TimmRecipe(name="test_resnet")}


def predictions(scores, labels=None, patients=None):
    n = len(scores)
    return pl.DataFrame(
        {
            "ecg_id": [f"r{number}" for number in range(n)],
            "site": ["here"] * n,
            "patient": patients or [f"p{number}" for number in range(n)],
            "label": labels or [1] * n,
            "seed": [0] * n,
            "score": scores,
        }
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Four waveforms, the last without a beat, and their images."""
    folder, rng = tmp_path_factory.mktemp("site"), np.random.default_rng(3)
    hearts = [sample_heart(sample_person(rng), disease="none", severity=0.0, rng=rng) for _ in range(3)]
    x_mv = np.stack(
        [clean(simulate(heart, seconds=5, sampling_hz=500, rng=rng)[0], FilterRecipe()) for heart in hearts]
        + [np.zeros((8, 2500))]
    )
    index = pl.DataFrame({"ecg_id": [f"r{number}" for number in range(4)], "shard": 0, "row": range(4)})
    for name, array in (("waves", x_mv.astype(np.float32)), ("images", render_many(x_mv, SheetRecipe()))):
        write_shard(folder / name, 0, array)
        write_index(folder / name, index)
    return ImageShards(folder / "images"), FilteredWaveforms(folder / "waves")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = {}
    for name, recipe in MODELS.items():
        folder = tmp_path_factory.mktemp(name)
        config = {"finetuning": {"seeds": [0, 1]}, "initialisation": "random initialisation"}
        (folder / "config.json").write_text(json.dumps(config))
        save_checkpoint(
            seed_folder(folder, 0),
            state=build_classifier(recipe, None, 0).state_dict(),
            config=classifier_config(recipe, None),
        )
        made[name] = FinetunedModel(folder)
    return made


def explained_by(models, recipe, by_model, site, out):
    images, waveforms = site
    return explain(
        models,
        recipe,
        predictions=by_model,
        images={"here": images},
        waveforms={"here": waveforms},
        sheet=SheetRecipe(),
        sampling_hz=500,
        out=out,
    )


@pytest.fixture(scope="module")
def explained(site, models, tmp_path_factory):
    by_model = {"beit": predictions([0.5, 0.9, 0.1, 0.8]), "resnet": predictions([0.6, 0.9, 0.2, 0.1])}
    out = tmp_path_factory.mktemp("out")
    return explained_by(models, SaliencyRecipe(ecgs=3), by_model, site, out)


def test_the_best_scored_positives_are_chosen_one_a_patient():
    one = predictions([0.9, 0.8, 0.99, 0.7, 0.1], labels=[1, 1, 0, 1, 1], patients=["a", "a", "b", "c", "d"])
    other = one.with_columns(score=pl.Series([0.5, 0.8, 0.99, 0.0, 0.9]))
    chosen = choose({"one": one, "other": other}, 2)
    assert chosen["ecg_id"].to_list() == ["r1", "r4"]
    assert chosen.select("one", "other").rows() == [(0.8, 0.8), (0.1, 0.9)]
    assert choose({"one": one.with_columns(label=0)}, 2).is_empty()


def test_explained_are_the_chosen_with_every_region(explained):
    shares = explained.shares()
    assert shares.unique("ecg", maintain_order=True)["ecg_id"].to_list() == ["r1", "r0", "r3"]
    sums = shares.group_by("ecg", "model", "kind").agg(pl.col("share", "area_share", "ink_share").sum())
    windows, leads = (sums.filter(pl.col("kind") == kind).drop("ecg", "model", "kind") for kind in ("window", "lead"))
    assert (len(windows), len(leads)) == (4, 6)
    np.testing.assert_allclose(windows.to_numpy(), 1)
    np.testing.assert_allclose(leads["area_share"], 192 / 224)
    assert leads["share"].max() < 1
    assert (shares["error"] < 1e-9).all()


def test_an_ecg_without_beats_has_no_windows_but_leads(explained):
    flat = explained.shares().filter(pl.col("ecg_id") == "r3")
    assert set(flat["kind"]) == {"lead"}
    assert set(explained.summary()["ecgs"]) == {2}


def section_html(made):
    """The section of a page, as `page.html.j2` includes it."""
    template = environment().get_template("saliency.html.j2")
    return template.render(task=SimpleNamespace(name="stroke", saliency=saliency_section(made)), headings=HEADINGS)


def test_the_page_holds_its_pictures_and_states_the_weights(explained):
    page = section_html(explained)
    assert page.count("data:image/png;base64,") == 3 == len(explained.figures())
    assert "random initialisation" in page
    assert "QRS complexes" in page
    assert "http" not in page
    with Image.open(explained.figures()[0]) as picture:
        assert picture.width > 500


def test_no_positive_is_said(models, site, tmp_path):
    none = {name: predictions([0.5], labels=[0]) for name in models}
    made = explained_by(models, SaliencyRecipe(), none, site, tmp_path)
    assert made.shares().is_empty()
    assert made.summary().is_empty()
    assert "none is explained" in section_html(made)


@pytest.mark.parametrize("recipe", [SheetRecipe(), SheetRecipe(rows=4, columns=2)])
def test_leads_have_cells_of_one_size_each_their_own(recipe):
    masks = lead_masks(recipe)
    assert list(masks) == [cell.lead for cell in recipe.cells()]
    assert sum(mask.astype(int) for mask in masks.values()).max() == 1
    assert {mask.sum() for mask in masks.values()} == {recipe.cell_px[0] * recipe.cell_px[1]}
    for cell in recipe.cells():
        assert masks[cell.lead][int(cell.baseline_px), cell.left_px]


def test_an_even_map_has_the_share_of_the_area():
    windows = {name: np.zeros(2500, bool) for name in ("qrs", "st", "t")}
    windows["qrs"][:625] = True
    masks = window_masks(windows, SheetRecipe())
    assert share(np.ones((224, 224)), mask=masks["qrs"]) == pytest.approx(0.25) == masks["qrs"].mean()
    assert share(np.zeros((224, 224)), mask=masks["qrs"]) is None


def test_the_overlay_darkens_with_strength_and_leaves_paper_white():
    paper = np.full((224, 224), 255, np.uint8)
    lightness = [overlay(paper, strength=np.full((224, 224), s)).mean() for s in (0, 0.1, 0.3, 0.6, 1)]
    assert lightness[0] == 255
    assert (np.diff(lightness) < 0).all()


def test_even_attention_and_no_attribution_have_strength_zero():
    assert rollout_strength(np.full((224, 224), 1 / 224**2)).max() < 1e-9
    assert attribution_strength(np.zeros((224, 224))).max() == 0
