"""What only D-BETA has: replaced and equal texts, lead order, files of its authors, recipes that cannot be."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from ecg_pipeline.ecg import LEADS, RecipeError
from ecg_pipeline.models import FAMILIES
from ecg_pipeline.models.d_beta import FAMILY
from ecg_pipeline.models.d_beta.losses import pair_loss
from ecg_pipeline.models.d_beta.masking import NOT_PREDICTED, NegativeTexts, Texts, Words, mask_words, replace_texts
from ecg_pipeline.models.d_beta.network import ECG_PATH, DBetaModel, d_beta_model
from ecg_pipeline.models.d_beta.objective import d_beta_objective, pairs_that_count
from ecg_pipeline.models.d_beta.recipes import MIMIC_LEADS, TEXTS, DBetaPretraining, DBetaRecipe
from ecg_pipeline.models.d_beta.vectors import ecg_vectors, load_pretrained, text_vectors
from ecg_pipeline.models.family import NoTextEncoder
from ecg_pipeline.models.t5_shape import shape_of
from ecg_pipeline.training.weights import load_exactly, save_checkpoint

TINY = DBetaRecipe(
    conv_widths=(8, 8),
    conv_kernels=(2, 2),
    conv_strides=(2, 2),
    width=16,
    depth=1,
    heads=2,
    mlp_width=24,
    position_kernel=4,
    position_groups=2,
    text_width=16,
    text_depth=2,
    text_heads=2,
    text_head_width=6,
    text_mlp_width=20,
    joint_width=12,
    joint_heads=2,
    joint_depth=2,
    reconstruct_after=1,
    decoder_width=8,
    decoder_heads=2,
    decoder_depth=1,
)
WORDS = Words(vocabulary=30, pad=0, mask=2, special=(0, 1, 2))
SAMPLES = 83


@pytest.fixture(scope="module")
def model():
    return d_beta_model(TINY, vocabulary=WORDS.vocabulary, rate=0.0, seed=3).eval()


def test_parameters_are_as_many_as_published():
    with torch.device("meta"):
        whole = DBetaModel(DBetaRecipe(), vocabulary=32128)
    sizes = {name: parameter.numel() for name, parameter in whole.named_parameters()}
    assert sum(size for name, size in sizes.items() if name.startswith(ECG_PATH)) == 63_203_712
    assert sum(size for name, size in sizes.items() if not name.startswith("language_encoder.")) == 211_758_786
    assert 320e6 < sum(sizes.values()) < 322e6


def texts(*rows):
    longest = max(map(len, rows))
    tokens = np.array([[*row, *[0] * (longest - len(row))] for row in rows])
    return Texts(ids=np.arange(len(rows)), tokens=tokens, lengths=np.array([len(row) for row in rows]))


def test_a_replaced_text_is_one_of_the_least_similar_and_one_without_any_stays():
    own = texts([5, 6, 7, 8, 1], [9, 1], [10, 11, 1])
    negatives = NegativeTexts(tokens=own.tokens, lengths=own.lengths, negatives=np.array([[1, 2], [0, -1], [-1, -1]]))
    seen = [set(), set(), set()]
    for step in range(200):
        shown, is_own = replace_texts(own, negatives, share=0.5, rng=np.random.default_rng(step))
        assert (~is_own).sum() <= 2
        for place in range(3):
            seen[place].add(int(shown.ids[place]))
            assert is_own[place] == (shown.ids[place] == place)
            assert shown.tokens[place].tolist() == own.tokens[shown.ids[place]].tolist()
            assert shown.lengths[place] == own.lengths[shown.ids[place]]
    assert seen == [{0, 1, 2}, {0, 1}, {2}]
    unknown = replace(own, ids=np.array([-1, -1, -1]))
    assert replace_texts(unknown, negatives, share=1.0, rng=np.random.default_rng(0))[1].all()


def test_words_are_masked_as_berts_and_special_tokens_never():
    said = texts(*[[*np.random.default_rng(place).integers(3, 30, 40).tolist(), 1] for place in range(500)], [1])
    shown, labels = mask_words(said, WORDS, probability=0.25, rng=np.random.default_rng(0))
    is_masked = labels != NOT_PREDICTED
    may_be = said.is_word & (said.tokens > 2)
    assert not is_masked[~may_be].any()
    assert is_masked[may_be].mean() == pytest.approx(0.25, abs=0.01)
    assert (labels[is_masked] == said.tokens[is_masked]).all()
    assert (shown[~is_masked] == said.tokens[~is_masked]).all()
    assert (shown[is_masked] == WORDS.mask).mean() == pytest.approx(0.8 + 0.1 / 30, abs=0.015)
    assert (shown[is_masked] == labels[is_masked]).mean() == pytest.approx(0.1 + 0.1 / 30, abs=0.015)


def test_equal_texts_are_negatives_or_count_nothing():
    # The last ECG shows the text of the first; the second and third have one text, of which the third's is replaced.
    counts = torch.from_numpy(pairs_that_count(np.array([7, 8, 8, 9]), np.array([7, 8, 5, 7])))
    assert counts.tolist() == [
        [True, True, True, False],
        [True, True, True, True],
        [True, False, True, True],
        [True, True, True, True],
    ]
    similarities = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    is_own = torch.tensor([True, True, False, False])
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0]).diag() - (1 - torch.eye(4))
    losses = (1 + torch.exp(-signs * similarities)).log()
    assert pair_loss(similarities, is_own).item() == pytest.approx(losses.mean().item(), rel=1e-5)
    ignored = pair_loss(similarities, is_own, counts=counts)
    assert ignored.item() == pytest.approx(losses[counts].mean().item(), rel=1e-5)


def objective(pretraining=None, recipe=TINY, seed=1):
    own = texts([5, 6, 7, 8, 1], [9, 12, 1], [10, 11, 13, 14, 15, 16, 1])
    negatives = NegativeTexts(tokens=own.tokens, lengths=own.lengths, negatives=np.array([[1, 2], [0, 2], [0, 1]]))
    made = d_beta_objective(
        recipe,
        pretraining or DBetaPretraining(batch=8, group=4),
        words=WORDS,
        negatives=negatives,
        text_folder=None,
        seed=seed,
    )
    ids = np.array([0, 1, 2, 0, 1, 1, 2, 2])
    rows = np.concatenate([ids[:, None], own.lengths[ids][:, None], own.tokens[ids]], axis=1).astype(np.int32)
    x = np.random.default_rng(0).normal(0, 1, (8, 12, SAMPLES)).astype(np.float32)
    return made, {recipe.view: x, TEXTS: rows}


def test_what_is_random_is_a_function_of_seed_step_and_group():
    made, arrays = objective()

    def sampled(places, step=0, made=made):
        return made.micro_batch(arrays, places, step=step, device="cpu")

    one, again = sampled(range(4, 8)), sampled(range(4, 8))
    for name in ("x", "token_ids", "labels", "is_aligned", "order"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert one.seed == again.seed
    for other in (sampled(range(4)), sampled(range(4, 8), step=1), sampled(range(4, 8), made=objective(seed=2)[0])):
        assert not torch.equal(one.order, other.order)
        assert one.seed != other.seed
    is_kept = (one.x != 0).any(dim=2)
    assert torch.equal(one.x[is_kept], torch.from_numpy(arrays[TINY.view][4:])[is_kept])
    assert 0 < is_kept.float().mean() < 1
    assert one.kept == int(20 * 0.25)
    assert made.count(one).sum() == 4


def test_leads_of_mimic_are_read_in_its_order():
    recipe = replace(TINY, leads="mimic")
    assert [LEADS[row] for row in recipe.rows] == list(MIMIC_LEADS)
    assert set(MIMIC_LEADS) == set(LEADS)
    standard, mimic = (objective(DBetaPretraining(batch=8, group=4, lead_mask=0.0), one) for one in (TINY, recipe))
    x = mimic[0].micro_batch(mimic[1], range(4), step=0, device="cpu").x
    assert torch.equal(x, standard[0].micro_batch(standard[1], range(4), step=0, device="cpu").x[:, list(recipe.rows)])
    windows = mimic[1][TINY.view]
    one, other = (d_beta_model(which, vocabulary=9, rate=0.0, seed=0).eval() for which in (TINY, recipe))
    found = ecg_vectors(other, windows)
    np.testing.assert_allclose(found, ecg_vectors(one, windows[:, list(recipe.rows)]), atol=1e-6)
    classifier = FAMILY.classifier(recipe, None, seed=0).eval()
    load_exactly(classifier.network, {name: t for name, t in other.state_dict().items() if name.startswith(ECG_PATH)})
    with torch.inference_mode():
        np.testing.assert_allclose(classifier.features(torch.from_numpy(windows)), found, atol=1e-6)


def test_the_loss_is_the_sum_of_its_terms_and_every_weight_has_a_gradient():
    made, arrays = objective(DBetaPretraining(batch=8, group=8, equal_reports="ignored"))
    group = made.micro_batch(arrays, range(8), step=0, device="cpu")
    point = made.point(made.backward(made.network.train(), group, weight=1 / 8), 8)
    terms = ("words", "reconstruction", "matching", "pairs")
    assert point["loss"] == pytest.approx(sum(point[term] for term in terms), rel=1e-5)
    assert point["words"] == pytest.approx(np.log(30), abs=0.5)
    assert point["matching"] == pytest.approx(np.log(2), abs=0.2)
    assert all(parameter.grad is not None for parameter in made.network.parameters())
    assert not group.counts.all()


def test_a_small_network_learns_which_text_fits_which_ecg():
    texts, rng = np.array([[5, 9, 11, 1], [7, 8, 12, 1]]), np.random.default_rng(0)

    def draw(count):
        """ECGs with a bump in the first or in the last six leads, and the text of each."""
        which = rng.integers(0, 2, count)
        x = rng.normal(0, 0.2, (count, len(LEADS), SAMPLES)).astype(np.float32)
        x[which == 0, :6, 20:60] += 1
        x[which == 1, 6:, 20:60] += 1
        rows = np.concatenate([which[:, None], np.full((count, 1), 4), texts[which]], axis=1)
        return which, {TINY.view: x, TEXTS: rows.astype(np.int32)}

    torch.set_num_threads(1)
    made = d_beta_objective(
        TINY,
        DBetaPretraining(batch=16, group=16, dropout=0.0, equal_reports="ignored"),
        words=WORDS,
        negatives=NegativeTexts(tokens=texts, lengths=np.full(2, 4), negatives=np.array([[1], [0]])),
        text_folder=None,
        seed=0,
    )
    network = made.network.train()
    optimiser = torch.optim.AdamW(made.parameter_groups(0.01), lr=3e-3)
    for step in range(300):
        group = made.micro_batch(draw(16)[1], range(16), step=step, device="cpu")
        optimiser.zero_grad()
        made.backward(network, group, weight=1 / 16)
        optimiser.step()
    which, arrays = draw(100)
    scores = ecg_vectors(network.eval(), arrays[TINY.view]) @ text_vectors(network, texts.tolist()).T
    assert (scores.argmax(axis=1) == which).mean() > 0.95


def test_only_what_is_asked_of_the_last_layer_is_computed(model):
    _, arrays = objective()
    with torch.no_grad():
        ecg = model.ecg_states(model.ecg_tokens(torch.from_numpy(arrays[TINY.view])))
        ids = torch.from_numpy(arrays[TEXTS][:, 2:].astype(np.int64))
        text = model.text_states(ids, ids != 0)
        whole, part = (model.join(ecg, text, ids != 0, whole=one) for one in (True, False))
    assert part.ecg.shape[1] == 1
    for name in ("vectors", "text", "partly"):
        torch.testing.assert_close(getattr(whole, name), getattr(part, name), atol=1e-6, rtol=0)


def test_padding_changes_no_state_of_a_word(model):
    ids = torch.tensor([[5, 9, 11, 1], [7, 1, 0, 0]])
    waves = torch.from_numpy(objective()[1][TINY.view][:2])
    with torch.no_grad():
        ecg = model.ecg_states(model.ecg_tokens(waves))
        more = torch.nn.functional.pad(ids, (0, 5))
        short, long = (model.join(ecg, model.text_states(texts, texts != 0), texts != 0) for texts in (ids, more))
    torch.testing.assert_close(short.text[ids != 0], long.text[more != 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(short.vectors, long.vectors, atol=1e-6, rtol=0)
    assert not long.text[more == 0].any()


def test_a_texts_vector_does_not_depend_on_its_padding_unless_as_released(model):
    ids = [5, 9, 11, 1]
    padded, is_word = torch.tensor([[*ids, 0, 0, 0]]), torch.tensor([[True] * 4 + [False] * 3])
    alone = torch.from_numpy(text_vectors(model, [ids]))
    with torch.no_grad():
        torch.testing.assert_close(model.text_vectors(padded, is_word), alone, atol=1e-6, rtol=0)
        released = d_beta_model(replace(TINY, text_padding="attended"), vocabulary=30, rate=0.0, seed=3).eval()
        assert not torch.allclose(released.text_vectors(padded, is_word), alone, atol=1e-3)


def official(model, prefix=""):
    """The state as its authors write it."""
    parts = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for name, tensor in model.state_dict().items():
        for now, theirs in parts.items():
            name = name.replace(now, theirs)
        state[f"{prefix}{name}"] = tensor.clone()
    state[f"{prefix}language_encoder.encoder.embed_tokens.weight"] = model.language_encoder.shared.weight.clone()
    state[f"{prefix}ecg_encoder.mask_emb"] = torch.zeros(16)
    return state


@pytest.mark.parametrize("prefix", ["", "model.", "dbeta.net."])
def test_the_authors_files_come_in_under_any_prefix(tmp_path, model, prefix):
    torch.save({"model": official(model, prefix)}, tmp_path / "sample.pt")
    imported = FAMILY.import_weights(tmp_path / "sample.pt", TINY, tmp_path / "out")
    own, found = model.state_dict(), imported.state()
    assert found.keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.items())
    config = imported.config()
    assert config["left_out"][0] == "ecg_encoder.mask_emb"
    assert "CC BY-NC 4.0: non-commercial" in config["origin"]
    assert config["licence"] == FAMILY.licence == "CC BY-NC 4.0: non-commercial"
    assert config["leads"] == "standard"
    file = FAMILY.export_weights(imported, tmp_path / "exported.pt")
    theirs = torch.load(file, weights_only=True)["model"]
    assert theirs.keys() == official(model).keys() - {"ecg_encoder.mask_emb"}
    loaded = load_pretrained(imported, TINY)
    np.testing.assert_array_equal(text_vectors(loaded, [[5, 1]]), text_vectors(model, [[5, 1]]))


def test_vectors_are_those_of_the_pretrained_network_or_of_a_random_one(tmp_path, model):
    torch.save(official(model), tmp_path / "sample.pt")
    imported = FAMILY.import_weights(tmp_path / "sample.pt", TINY, tmp_path / "out")
    waves = np.random.default_rng(0).normal(size=(3, 12, SAMPLES)).astype(np.float32)

    def both(start, seed):
        vectors = FAMILY.vectors(TINY, start, vocabulary=WORDS.vocabulary, seed=seed)
        return vectors.texts([[5, 1], [7, 8, 1]]), vectors.ecgs(waves)

    own = text_vectors(model, [[5, 1], [7, 8, 1]]), ecg_vectors(model, waves)
    for found, expected in zip(both(imported, 9), own, strict=True):
        np.testing.assert_array_equal(found, expected)
    for one, same, other in zip(both(None, 3), both(None, 3), both(None, 4), strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.allclose(one, other)
    with pytest.raises(ValueError, match="knows 30 token ids, but the tokenizer of texts has 31"):
        FAMILY.vectors(TINY, imported, vocabulary=31, seed=0)
    assert [name for name, family in FAMILIES.items() if family.has_text_vectors] == ["d_beta"]


def test_a_file_of_the_ecgs_path_alone_comes_in_and_says_what_is_absent(tmp_path, model):
    state = {name: tensor for name, tensor in official(model).items() if name.startswith(ECG_PATH)}
    torch.save(state, tmp_path / "ecg.pt")
    imported = FAMILY.import_weights(tmp_path / "ecg.pt", TINY, tmp_path / "out")
    assert set(imported.config()["absent"]) >= {"language_encoder", "mlm_head", "multi_modal_ecg_layers"}
    assert FAMILY.classifier(TINY, imported, seed=0)
    with pytest.raises(NoTextEncoder, match="no text encoder"):
        load_pretrained(imported, TINY)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("itm_head.fc.bias"), r"missing itm_head\.fc\.bias"),
        (lambda state: state.pop("unimodal_ecg_pooler.dense.bias"), r"missing unimodal_ecg_pooler\.dense\.bias"),
        (lambda state: state.update(stray=torch.zeros(1)), "unexpected stray"),
        (lambda state: state.pop("class_embedding"), "0 weights named `class_embedding`"),
        (lambda state: state.update({"b.class_embedding": torch.zeros(16)}), "2 weights named `class_embedding`"),
        (lambda state: state["language_encoder.shared.weight"].zero_(), "must be one table"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, model, change, says):
    state = official(model)
    change(state)
    torch.save(state, tmp_path / "wrong.pt")
    with pytest.raises(ValueError, match=says):
        FAMILY.import_weights(tmp_path / "wrong.pt", TINY, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pretraining_starts_from_a_local_t5(tmp_path):
    from transformers import T5Config, T5EncoderModel

    shape = TINY.text_shape
    config = T5Config(
        vocab_size=33, d_model=16, d_kv=6, d_ff=20, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    theirs = T5EncoderModel(config)
    theirs.save_pretrained(tmp_path)
    made, _ = objective()
    options = {"words": WORDS, "negatives": made.negatives, "text_folder": tmp_path, "seed": 0}
    started = d_beta_objective(TINY, made.pretraining, **options)
    assert torch.equal(started.network.language_encoder.shared.weight, theirs.shared.weight)
    assert started.facts(torch.tensor([1, 3]), 4)["text_encoder"] == f"local T5 folder {tmp_path.name}"
    assert shape == shape_of(config.to_dict())
    assert len(started.network.mlm_head.bias) == 33  # the table has more rows than the tokenizer has tokens
    with pytest.raises(ValueError, match="but the recipe says"):
        d_beta_objective(replace(TINY, text_depth=3), made.pretraining, **options)
    with pytest.raises(ValueError, match="33 tokens for a tokenizer of 40"):
        d_beta_objective(TINY, made.pretraining, **options | {"words": replace(WORDS, vocabulary=40)})


def test_a_loaded_network_is_that_of_its_checkpoint(tmp_path, model):
    checkpoint = save_checkpoint(tmp_path, state=model.state_dict(), config={"model": asdict(TINY)})
    x = np.random.default_rng(0).normal(0, 1, (3, 12, SAMPLES)).astype(np.float32)
    np.testing.assert_array_equal(ecg_vectors(load_pretrained(checkpoint, TINY), x), ecg_vectors(model, x))


@pytest.mark.parametrize(
    ("kind", "values", "key"),
    [
        (DBetaRecipe, {"heads": 7}, "heads"),
        (DBetaRecipe, {"joint_heads": 7}, "joint_heads"),
        (DBetaRecipe, {"decoder_width": 9, "decoder_heads": 3}, "decoder_width"),
        (DBetaRecipe, {"position_groups": 5}, "position_groups"),
        (DBetaRecipe, {"conv_kernels": (2, 2)}, "conv_widths"),
        (DBetaRecipe, {"reconstruct_after": 7}, "reconstruct_after"),
        (DBetaRecipe, {"text_head_width": 0}, "text_head_width"),
        (DBetaRecipe, {"dropout": 1.0}, "dropout"),
        (DBetaPretraining, {"group": 1}, "group"),
        (DBetaPretraining, {"replaced": 1.1}, "replaced"),
        (DBetaPretraining, {"ecg_mask": 1.0}, "ecg_mask"),
        (DBetaPretraining, {"eps": 0.0}, "eps"),
    ],
)
def test_an_impossible_recipe_names_its_key(kind, values, key):
    with pytest.raises(RecipeError) as error:
        kind(**values)
    assert error.value.keys[0] == key


def test_a_window_that_does_not_fit_is_named():
    FAMILY.check(DBetaRecipe(), {DBetaRecipe().view: (12, 5000)})
    FAMILY.check_pretraining(DBetaRecipe(), DBetaPretraining(), {DBetaRecipe().view: (12, 5000)})
    for shape in ((8, 5000), (12, 15), (12, 9000)):
        with pytest.raises(RecipeError) as error:
            FAMILY.check(DBetaRecipe(), {DBetaRecipe().view: shape})
        assert error.value.keys[0] == "window"
    with pytest.raises(RecipeError, match="some must be kept"):
        FAMILY.check_pretraining(TINY, DBetaPretraining(ecg_mask=0.0), {TINY.view: (12, SAMPLES)})
    with pytest.raises(RecipeError, match="convolutions overlap"):
        FAMILY.check_pretraining(replace(TINY, conv_kernels=(1, 1)), DBetaPretraining(), {TINY.view: (12, SAMPLES)})
