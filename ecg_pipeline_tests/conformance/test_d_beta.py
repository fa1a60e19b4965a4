"""The reference of D-BETA's fixtures gives the published numbers, and planted mistakes are noticed."""

from functools import partial

import numpy as np
import pytest
import torch

from ecg_pipeline.models import t5
from ecg_pipeline.models.d_beta import fusion, heads, losses, masking, network, objective, recipes, vectors
from ecg_pipeline_tests.conformance.ecg_fm_options import conv_layers
from ecg_pipeline_tests.conformance.fixtures import Fixture, close, find_fixtures
from ecg_pipeline_tests.conformance.kinds import check
from ecg_pipeline_tests.conformance.reference import d_beta as reference
from ecg_pipeline_tests.conformance.reference.d_beta_folder import write_d_beta
from ecg_pipeline_tests.conformance.reference.ecg_fm_states import double
from ecg_pipeline_tests.conformance.reference.write import Files
from ecg_pipeline_tests.conformance.test_mutations import rewritten
from ecg_pipeline_tests.conftest import SHARED


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other_shapes") / "founder_dbeta"
    folder.mkdir()
    write_d_beta(Files(folder), seed=9)
    (fixture,) = find_fixtures(folder)
    return fixture


def test_the_reference_gives_the_published_numbers():
    fixture = Fixture(SHARED / "golden" / "founder_dbeta" / "dbeta_small")
    if not fixture.path.with_suffix(".json").exists():
        pytest.skip(f"there is no folder {SHARED.name}/golden beside the project")
    facts, tensors = fixture.facts, fixture.tensors
    config = facts["config"] | {
        "convolutions": [layer[0] for layer in conv_layers(facts["config"]["conv_feature_layers"])]
    }
    with torch.no_grad():
        net = reference.Net(config, double(fixture.named("sd.")), facts["t5_config"])
        tokens = net.front(tensors["ecg"].double())["embeddings"]
        close(tokens.float(), tensors["emb.embeddings"], 1e-5, "embeddings")
        order = tensors["mask_noise"].argsort(dim=1)[:, : int(tokens.shape[1] * (1 - config["mem_prob"]))]
        states, _ = net.encode(tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[2])))
        joined = net.join(states, net.read(tensors["text"])[0], tensors["text_attention_mask"])
        for name, tensor in joined.items():
            if (expected := tensors.get(f"masked.{name}")) is not None:
                close(tensor.float(), expected, 1e-5, name)
        partly = joined[f"multi_modal_ecg_feats_{config['mem_layer']}"]
        logits, _ = net.reconstruct(partly, tensors["masked.mem_ids_restore"])
        close(logits.float(), tensors["masked.mem_logits"], 1e-5, "reconstruction")
        close(net.words(joined["multi_modal_text_feats"]).float(), tensors["masked.mlm_logits"], 1e-5, "words")
        for case in facts["ets_cases"]:
            found = reference.pairs(
                tensors["ets.ecg"],
                tensors["ets.text"],
                torch.tensor(case["labels"]),
                scale=case["logit_scale"],
                bias=case["bias"] or 0.0,
            )
            assert float(found) == pytest.approx(case["loss"], abs=1e-6)
        wanted = reference.target(tensors["ecg"].double(), tokens.shape[1], logits.shape[3], standardised=True)
        close(wanted.float(), tensors["masked_npl1.mem_target"], 1e-5, "target")


def looser_norms_in_fusion(patch):
    patch.setattr(fusion, "EPS", 1e-5)


JOIN, MICRO_BATCH = network.DBetaModel.join, objective.DBetaObjective.micro_batch

MISTAKES = {
    "contrast_divided_by_n": partial(rewritten, losses.pair_loss, "losses.mean() if", "losses.sum() / len(losses) if"),
    "biased_variance": partial(
        rewritten,
        losses.reconstruction_target,
        "x.var(dim=-1, keepdim=True)",
        "x.var(dim=-1, keepdim=True, unbiased=False)",
    ),
    "reconstructed_one_layer_late": partial(rewritten, JOIN, "place == after:", "place == after + 1:"),
    "reconstructed_one_layer_early": partial(rewritten, JOIN, "place == after:", "place == after - 1:"),
    "erf_in_t5": partial(rewritten, t5.FeedForward.forward, '"tanh"', '"none"'),
    "looser_norms_in_fusion": looser_norms_in_fusion,
    "replaced_texts_lost": partial(
        rewritten,
        MICRO_BATCH,
        "texts = shortened(texts)",
        "texts = Texts(ids=texts.ids, lengths=texts.lengths, tokens=own.tokens)",
    ),
    "texts_never_replaced": partial(rewritten, MICRO_BATCH, "share=recipe.replaced", "share=0.0"),
    "special_tokens_masked": partial(
        rewritten, masking.mask_words, "~np.isin(texts.tokens, words.special)", "(texts.tokens == texts.tokens)"
    ),
    "scaled_dot_products_in_t5": partial(rewritten, t5.SelfAttention.forward, "scale=1.0", "scale=None"),
    "positions_of_t5_reversed": partial(rewritten, t5.relative_buckets, "(distance > 0)", "(distance < 0)"),
    "no_gate_in_t5": partial(rewritten, t5.FeedForward.forward, "* self.wi_1(x)", "+ 0 * self.wi_1(x)"),
    "one_after_the_other": partial(
        rewritten,
        JOIN,
        "new_ecg = of_ecg(",
        "ecg = new_ecg = of_ecg(",
    ),
    "modalities_swapped": partial(
        rewritten,
        JOIN,
        "ecg + modalities[ECG], packed(text + modalities[TEXT], by)",
        "ecg + modalities[TEXT], packed(text + modalities[ECG], by)",
    ),
    "ecg_before_text": partial(rewritten, JOIN, "torch.cat(together, dim=1)", "torch.cat(together[::-1], dim=1)"),
    "padding_joined": partial(
        rewritten,
        fusion.Projections.forward,
        "None if others_by is None else others_by.is_word[:, None, None, :]",
        "None",
    ),
    "class_token_with_a_position": partial(
        rewritten,
        network.EcgPath.ecg_states,
        "self.class_embedding.to(tokens.dtype)",
        "(self.class_embedding + self.ecg_encoder.conv_pos.pos_conv[0].bias)",
    ),
    "texts_without_padding_as_masked": partial(rewritten, network.DBetaModel.text_states, '== "masked"', '!= "masked"'),
    "tokens_not_put_back": partial(rewritten, heads.ReconstructionHead.forward, "order.argsort(dim=1)", "order"),
    "exact_gelu_in_the_decoder": partial(
        rewritten, heads.DecoderLayer.forward, "inner * torch.sigmoid(1.702 * inner)", "nn.functional.gelu(inner)"
    ),
    "kept_tokens_reconstructed": partial(
        rewritten, objective.loss_terms, "group.order[:, : group.kept]", "group.order[:, group.kept :]"
    ),
    "cosines": partial(rewritten, vectors.scores, "ecgs @ texts.T", "ecgs @ texts.T / np.linalg.norm(texts, axis=1)"),
    "own_pairs_always_alike": partial(
        rewritten, losses.pair_signs, "torch.diag(is_aligned.float())", "torch.eye(count)"
    ),
    "leads_kept_and_lost": partial(rewritten, masking.leads_kept, ">=", "<"),
    "one_token_less": partial(
        rewritten,
        recipes.DBetaPretraining.tokens_kept,
        "int(tokens * (1 - self.ecg_mask))",
        "int(tokens * (1 - self.ecg_mask)) - 1",
    ),
}
"""By what is wrong."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(mistake, small, monkeypatch):
    MISTAKES[mistake](monkeypatch)
    with pytest.raises(AssertionError):
        check(small)


def test_the_published_fixture_notices_the_smallest_mistakes(monkeypatch):
    fixture = Fixture(SHARED / "golden" / "founder_dbeta" / "dbeta_small")
    if not fixture.path.with_suffix(".json").exists():
        pytest.skip(f"there is no folder {SHARED.name}/golden beside the project")
    for mistake in ("looser_norms_in_fusion", "biased_variance", "erf_in_t5"):
        with monkeypatch.context() as patch:
            MISTAKES[mistake](patch)
            with pytest.raises(AssertionError):
                check(fixture)


def test_the_order_of_equal_numbers_does_not_matter_to_the_number_of_kept_tokens():
    order = masking.order_tokens(np.zeros((2, 9)))
    assert (np.sort(order, axis=1) == np.arange(9)).all()
