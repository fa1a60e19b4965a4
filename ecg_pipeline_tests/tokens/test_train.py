"""A tokenizer is trained on the given ECGs only, is reproducible, and does not collapse."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.storage.shards import write_index, write_shard
from ecg_pipeline.tokens.encode import load_tokenizer
from ecg_pipeline.tokens.pixels import token_view
from ecg_pipeline.tokens.recipes import ImportedTokenizer, TokenizerRecipe
from ecg_pipeline.tokens.tokenizer import id_counts, usage
from ecg_pipeline.tokens.train import train_tokenizer

QUICK = TokenizerRecipe(vocabulary=32, hidden=4, steps=3, batch=4)


def weights(tokenizer):
    return (tokenizer.folder / "weights.safetensors").read_bytes()


def test_training_again_gives_the_same_tokenizer(site, tmp_path):
    ecg_ids = frozenset(site.index()["ecg_id"])
    made = [train_tokenizer(QUICK, images={"a": site}, ecg_ids=ecg_ids, out=tmp_path / name) for name in ("one", "two")]
    assert weights(made[0]) == weights(made[1])
    assert made[0].config() == made[1].config()


def test_only_the_given_ecgs_matter(site, tmp_path):
    """Images of other ECGs are blackened: the tokenizer is the same."""
    ecg_ids = frozenset(site.index().filter(shard=0)["ecg_id"])
    expected = train_tokenizer(QUICK, images={"a": site}, ecg_ids=ecg_ids, out=tmp_path / "expected")
    for rows, images in site:
        write_shard(tmp_path / "blackened", rows["shard"][0], images if rows["shard"][0] == 0 else images * 0)
    write_index(tmp_path / "blackened", site.index())
    blackened = {"a": ImageShards(tmp_path / "blackened")}
    made = train_tokenizer(QUICK, images=blackened, ecg_ids=ecg_ids, out=tmp_path / "made")
    assert weights(made) == weights(expected)
    assert made.config()["sheets"] == len(ecg_ids)


def test_codes_do_not_collapse_onto_blank_paper(site, tmp_path):
    steps = []
    recipe = TokenizerRecipe(vocabulary=128, hidden=8, steps=60, batch=8)
    tokenizer = train_tokenizer(
        recipe,
        images={"a": site},
        ecg_ids=frozenset(site.index()["ecg_id"]),
        out=tmp_path / "out",
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1] == (60, 60)
    config = tokenizer.config()
    assert config["usage_inked"]["perplexity"] > 30
    assert config["usage_inked"]["commonest"] < 0.2

    images = site.read(0)
    ids = load_tokenizer(tokenizer).encode(images)
    ink = 1 - torch.from_numpy(token_view(images))[:, None]
    blank = (avg_pool2d(ink, 24, stride=8, padding=8).flatten(1) == 0).numpy()
    on_blank, elsewhere = (usage(id_counts(ids[where], recipe.vocabulary)) for where in (blank, ~blank))
    assert on_blank["perplexity"] < elsewhere["perplexity"] / 2


def test_no_ecg_at_all_is_an_error(site, tmp_path):
    with pytest.raises(ValueError, match="training patient"):
        train_tokenizer(QUICK, images={"a": site}, ecg_ids=frozenset({"unknown"}), out=tmp_path)


@pytest.mark.parametrize(
    "values", [{"vocabulary": 1}, {"vocabulary": 40_000}, {"hidden": 0}, {"steps": 0}, {"temperature": (1.0, 0.0)}]
)
def test_impossible_recipes_are_refused(values):
    with pytest.raises(ValueError, match=r"at least|positive|vocabulary"):
        TokenizerRecipe(**values)


def test_weights_stay_in_their_folder():
    with pytest.raises(ValueError, match="without a folder"):
        ImportedTokenizer(weights="../elsewhere.safetensors")
