"""The stages of timm's networks, which timm's own models list from the input to the head."""

from timm.models import group_parameters
from torch import nn


def stages_of_timm(network: nn.Module) -> list[list[nn.Parameter]]:
    """All parameters of a timm network, each once, in stages from the input to the head."""
    groups = group_parameters(network, network.group_matcher(coarse=False))  # type: ignore[operator]
    return [[network.get_parameter(name) for name in groups[stage]] for stage in sorted(groups)]
