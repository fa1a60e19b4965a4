"""Our training step of ECGFounder, compared with the obvious composition of the same network."""

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool1d, pad

from ecg_pipeline.bench.compare import Row, compare
from ecg_pipeline.bench.steps import Step, our_step, their_step
from ecg_pipeline.models.ecgfounder.network import Block, Net1D, net1d
from ecg_pipeline.models.ecgfounder.objective import StatementObjective
from ecg_pipeline.models.ecgfounder.recipes import STATEMENTS, EcgFounderPretraining, EcgFounderRecipe
from ecg_pipeline.training.schedules import decay_groups

BATCH, SAMPLES, LABELS = 32, 5000, 150
LEARNING_RATE, WEIGHT_DECAY, CLIP = 1e-5, 0.01, 1.0


def train_ecgfounder() -> list[Row]:
    """ECGs per second of a whole step (forward, backward, clipping, AdamW) at the released size."""
    ours, theirs = steps(EcgFounderRecipe(), batch=BATCH, samples=SAMPLES, labels=LABELS)
    return [
        compare(
            "train-ecgfounder",
            against="padding before each convolution, x * sigmoid(x), transposed shortcuts, unfused AdamW",
            ours=ours,
            theirs=theirs,
            target=1.5,
            unit=f"times the ECGs a second, full size, batch {BATCH} of 12 x {SAMPLES}, "
            f"{torch.get_num_threads()} threads",
        )
    ]


def steps(recipe: EcgFounderRecipe, *, batch: int, samples: int, labels: int) -> tuple[Step, Step]:
    """A training step of ours and one of theirs. Both start from the same weights and train on the same batch; other
    logits at the start are a ValueError.
    """
    rng = np.random.default_rng(0)
    arrays = {
        recipe.view: rng.standard_normal((batch, recipe.leads, samples)).astype(np.float32),
        STATEMENTS: rng.integers(-1, 2, (batch, labels)).astype(np.int8),
    }
    network = net1d(recipe, labels=labels, seed=0).train()
    objective = StatementObjective(
        network=network,
        recipe=recipe,
        pretraining=EcgFounderPretraining(),
        labels=tuple(map(str, range(labels))),
        seed=0,
    )
    obvious = _Obvious(network)
    micro_batch = objective.micro_batch(arrays, range(batch), step=0, device="cpu")
    count = int(objective.count(micro_batch).sum())
    our_optimiser = torch.optim.AdamW(objective.parameter_groups(WEIGHT_DECAY), lr=LEARNING_RATE, fused=True)
    their_optimiser = torch.optim.AdamW(decay_groups(obvious, WEIGHT_DECAY), lr=LEARNING_RATE)

    def their_loss() -> Tensor:
        logits, is_known = obvious(micro_batch.x), micro_batch.targets >= 0
        return binary_cross_entropy_with_logits(logits[is_known], micro_batch.targets[is_known].float())

    with torch.no_grad():
        logits = network(micro_batch.x)
        differ = float((logits - obvious(micro_batch.x)).abs().max())
    if not differ <= 1e-5:
        raise ValueError(f"the two networks differ by {differ:.2g}")
    return (
        our_step(objective, lambda: micro_batch, our_optimiser, count=count, clip=CLIP),
        their_step(obvious, their_loss, their_optimiser, clip=CLIP),
    )


class _Obvious(nn.Module):
    """A copy of a Net1D without batch norms, composed of the operations that its description names."""

    def __init__(self, network: Net1D):
        super().__init__()
        self.stem = deepcopy(network.first_conv.conv)
        blocks = [module for module in network.modules() if isinstance(module, Block)]
        self.blocks = nn.ModuleList(map(_ObviousBlock, blocks))
        self.dense = deepcopy(network.dense)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, T) -> (B, labels)."""
        x = _swish(_padded(self.stem, x))
        for block in self.blocks:
            x = block(x)
        return self.dense(x.mean(dim=-1))


class _ObviousBlock(nn.Module):
    def __init__(self, block: Block):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (deepcopy(conv.conv) for conv in (block.conv1, block.conv2, block.conv3))
        self.fc1, self.fc2 = deepcopy(block.se_fc1), deepcopy(block.se_fc2)
        self.stride, self.is_first = block.stride, block.is_first

    def forward(self, x: Tensor) -> Tensor:
        y = _padded(self.conv1, x if self.is_first else _swish(x))
        y = _padded(self.conv2, _swish(y))
        y = _padded(self.conv3, _swish(y))
        gate = torch.sigmoid(self.fc2(_swish(self.fc1(y.mean(dim=-1)))))
        y = torch.einsum("bct,bc->bct", y, gate)
        if self.stride > 1:
            left = (self.stride - 1) // 2
            x = max_pool1d(pad(x, (left, self.stride - 1 - left)), self.stride)
        if missing := y.shape[1] - x.shape[1]:
            x = pad(x.transpose(1, 2), (missing // 2, missing - missing // 2)).transpose(1, 2)
        return y + x


def _padded(conv: nn.Conv1d, x: Tensor) -> Tensor:
    stride, kernel, samples = conv.stride[0], conv.kernel_size[0], x.shape[-1]
    zeros = max(0, (-(-samples // stride) - 1) * stride + kernel - samples)
    return conv(pad(x, (zeros // 2, zeros - zeros // 2)))


def _swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)
