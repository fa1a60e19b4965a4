"""ECGFounder: its released sizes and files, what lead I alone is, and what unknown labels count."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from ecg_pipeline.ecg import LEADS, RecipeError
from ecg_pipeline.models.ecgfounder import FAMILY
from ecg_pipeline.models.ecgfounder.lead_one import lead_one, sample_axes
from ecg_pipeline.models.ecgfounder.network import Net1D, net1d
from ecg_pipeline.models.ecgfounder.objective import statement_objective
from ecg_pipeline.models.ecgfounder.recipes import STATEMENTS, EcgFounderPretraining, EcgFounderRecipe
from ecg_pipeline.statements import statement_names
from ecg_pipeline_tests.training.small import write_view

TINY = EcgFounderRecipe(base_filters=8, widths=(8, 12), blocks=(1, 2), kernel=6, groups_width=4)
OURS = EcgFounderPretraining()
CODES = ["A", "B", "NEVER KNOWN"]


def ecgs(count, samples=90):
    return np.random.default_rng(1).normal(0, 1, (count, 12, samples)).astype(np.float32)


def objective_of(recipe, folder, codes=CODES):
    shards = write_view(folder, [np.zeros((2, 3), np.int8)], codes=codes)
    return statement_objective(recipe, OURS, targets={"s": shards}, seed=0)


@pytest.mark.parametrize(("leads", "parameters"), [(12, 30_819_014), (1, 30_807_750)])
def test_the_defaults_are_the_released_networks(leads, parameters):
    with torch.device("meta"):
        network = Net1D(EcgFounderRecipe(leads=leads), 150)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert sum(parameter.numel() for parameter in network.parameters() if not parameter.requires_grad) == 66_368
    assert len(network.state_dict()) == 509


def test_the_released_labels_are_those_of_the_authors_file():
    labels = statement_names()
    lines = "".join(f"{label}\n" for label in labels).encode()
    assert sha256(lines).hexdigest() == "7c087a0d383c7ea9ae9b818ad00a551b029334edfa5f1fbb5036bfbaa0df0c39"
    assert (labels[5], labels[79]) == ("ATRIAL FIBRILLATION", "WITH 1ST DEGREE AV BLOCK")


def test_a_released_file_comes_in_with_its_labels_and_goes_out_as_it_was(tmp_path):
    official = net1d(TINY, labels=150, seed=3).state_dict()
    content = {"state_dict": {f"module.{name}": tensor for name, tensor in official.items()}, "epoch": 4}
    content |= {"optimizer": {"state": {0: {"step": torch.tensor(5.0)}}}, "val_auroc": np.float64(0.9)}
    torch.save(content, tmp_path / "12_lead.pth")
    checkpoint = FAMILY.import_weights(tmp_path / "12_lead.pth", TINY, tmp_path / "imported")
    assert checkpoint.config()["labels"] == list(statement_names())
    assert checkpoint.config()["origin"] == "published weights 12_lead.pth of PKUDigitalHealth/ECGFounder (MIT licence)"
    written = torch.load(FAMILY.export_weights(checkpoint, tmp_path / "out.pth"), weights_only=True)["state_dict"]
    assert written.keys() == official.keys()
    assert all(torch.equal(tensor, official[name]) for name, tensor in written.items())

    started, fresh = (FAMILY.classifier(TINY, start, seed=8).network for start in (checkpoint, None))
    for name, tensor in started.state_dict().items():
        expected = fresh.state_dict() if name.startswith("dense.") else official
        assert torch.equal(tensor, expected[name]), name


def test_a_file_without_a_last_layer_or_with_other_leads_is_refused(tmp_path):
    state = net1d(TINY, labels=3, seed=0).state_dict()
    torch.save(state, tmp_path / "whole.pth")
    torch.save({name: tensor for name, tensor in state.items() if "dense" not in name}, tmp_path / "body.pth")
    with pytest.raises(ValueError, match=r"body\.pth has no `dense\.weight`"):
        FAMILY.import_weights(tmp_path / "body.pth", TINY, tmp_path / "out")
    with pytest.raises(ValueError, match=r"first_conv\.conv\.weight is \(8, 12, 6\), not \(8, 1, 6\)"):
        FAMILY.import_weights(tmp_path / "whole.pth", replace(TINY, leads=1), tmp_path / "out")
    imported = FAMILY.import_weights(tmp_path / "whole.pth", TINY, tmp_path / "out")
    assert "labels" not in imported.config()  # nobody knows what three logits stand for


def test_lead_one_is_standardised_over_what_was_recorded():
    x = torch.from_numpy(ecgs(4)) * 3 + 1
    x[2] = 0
    x[3, LEADS.index("I")] = 5
    short = x.clone()
    short[:, :, 60:] = 0
    lead = lead_one(short)
    assert lead.shape == (4, 1, 90)
    assert torch.allclose(lead[:2].std(dim=-1, correction=0) * (90 / 60) ** 0.5, torch.ones(2, 1), atol=1e-4)
    assert torch.allclose(lead[:, :, :60], lead_one(x[:, :, :60]), atol=1e-5)
    assert not lead[:, :, 60:].any()
    assert not lead[2].any()
    assert lead[3].abs().max() < 1e-3


def test_lead_one_turns_towards_avf_and_inverts():
    x = torch.from_numpy(ecgs(3))
    quarter, none = torch.full((3,), torch.pi / 2), torch.zeros(3)
    of_avf = x.clone()
    of_avf[:, LEADS.index("I")] = x[:, LEADS.index("aVF")]
    assert torch.allclose(lead_one(x, angles=quarter), lead_one(of_avf), atol=1e-5)
    assert torch.equal(lead_one(x, angles=none), lead_one(x))
    assert torch.equal(lead_one(x, signs=-torch.ones(3)), -lead_one(x))


def test_angles_and_signs_have_the_recipes_range():
    angles, signs = sample_axes(4000, inverted=0.25, turn_degrees=30, generator=torch.Generator().manual_seed(0))
    assert angles.abs().max() <= torch.pi / 6
    assert angles.std() == pytest.approx(torch.pi / 6 / 3**0.5, rel=0.05)
    assert (signs == -1).float().mean() == pytest.approx(0.25, abs=0.03)
    assert set(signs.tolist()) == {-1, 1}


@pytest.mark.parametrize("leads", [1, 12])
def test_what_an_example_gets_does_not_depend_on_how_a_batch_is_divided(tmp_path, leads):
    objective = objective_of(replace(TINY, leads=leads), tmp_path)
    arrays = {objective.recipe.view: ecgs(5), STATEMENTS: np.ones((5, 3), np.int8)}
    whole, other = (objective.micro_batch(arrays, range(5), step=step, device="cpu").x for step in (7, 8))
    parts = [objective.micro_batch(arrays, places, step=7, device="cpu").x for places in (range(2), range(2, 5))]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(whole, other) == (leads == 12)


def test_unknown_labels_count_nothing(tmp_path):
    objective = objective_of(TINY, tmp_path)
    targets = np.array([[1, 0, -1], [0, -1, -1], [-1, 1, -1]], np.int8)
    arrays = {objective.recipe.view: ecgs(3), STATEMENTS: targets}
    batch = objective.micro_batch(arrays, range(3), step=0, device="cpu")
    counts = objective.count(batch)
    assert counts.tolist() == [[1, 1, 0], [1, 1, 0]]
    sums = objective.backward(objective.network, batch, weight=0.25)
    with torch.no_grad():
        logits = objective.network(batch.x)
    is_known = batch.targets >= 0
    expected = binary_cross_entropy_with_logits(logits[is_known], batch.targets[is_known].float())
    point = objective.point(sums, 4)
    assert point["loss"] == pytest.approx(expected.item(), abs=1e-6)
    right = (logits > 0)[is_known] == (batch.targets == 1)[is_known]
    assert point["accuracy"] == pytest.approx(right.float().mean().item())
    gradient = objective.network.dense.weight.grad
    assert gradient is not None
    assert not gradient[2].any()
    assert gradient[:2].any(dim=1).all()
    facts = objective.facts(counts, 3)
    assert facts["labels"] == CODES
    assert facts["stated"] == {"A": 1, "B": 1, "NEVER KNOWN": 0}
    assert facts["known"] == {"A": 2, "B": 2, "NEVER KNOWN": 0}


def test_the_optimiser_gets_what_has_a_gradient(tmp_path):
    objective = objective_of(TINY, tmp_path)
    given = [id(parameter) for group in objective.parameter_groups(0.1) for parameter in group["params"]]
    trained = [
        id(p) for name, p in objective.network.named_parameters() if ".bn" not in name and "first_bn" not in name
    ]
    assert sorted(given) == sorted(trained)


def test_there_must_be_one_list_of_codes(tmp_path):
    with pytest.raises(ValueError, match="there is no statement to pretrain on"):
        objective_of(TINY, tmp_path / "none", codes=[])
    sites = {name: write_view(tmp_path / name, [np.zeros((2, 1), np.int8)], codes=[name]) for name in "ab"}
    with pytest.raises(ValueError, match="have 2 lists of codes"):
        statement_objective(TINY, OURS, targets=sites, seed=0)


def test_what_does_not_fit_is_said_with_its_key():
    with pytest.raises(RecipeError, match="has 8 leads") as error:
        FAMILY.check(TINY, {TINY.view: (8, 5000)})
    assert error.value.keys == ("window",)
    FAMILY.check_pretraining(TINY, OURS, {STATEMENTS: (3,)})
    with pytest.raises(RecipeError, match="batch norm") as error:
        FAMILY.check_pretraining(replace(TINY, use_bn=True), OURS, {STATEMENTS: (3,)})
    assert error.value.keys == ("model.use_bn",)
    with pytest.raises(RecipeError, match="no statement"):
        FAMILY.check_pretraining(TINY, OURS, {STATEMENTS: (0,)})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"leads": 8}, "leads"),
        ({"blocks": (1,)}, "widths"),
        ({"blocks": (1, 0)}, "blocks"),
        ({"widths": (8, 3)}, "widths"),
        ({"ratio": 0.6}, "widths"),
        ({"stride": 0}, "stride"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(change, key):
    with pytest.raises(RecipeError) as error:
        replace(TINY, **change)
    assert error.value.keys[0] == key


@pytest.mark.parametrize(("change", "key"), [({"inverted": 1.1}, "inverted"), ({"turn_degrees": 200}, "turn_degrees")])
def test_an_augmentation_out_of_range_is_refused(change, key):
    with pytest.raises(RecipeError) as error:
        EcgFounderPretraining(**change)
    assert error.value.keys == (key,)
