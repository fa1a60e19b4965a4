"""Which check runs on which kind of fixture, and what family the project has."""

from collections.abc import Callable

from ecg_pipeline_tests.conformance import beit, data, tokens, training
from ecg_pipeline_tests.conformance.fixtures import Fixture

HEARTBEIT: dict[str, Callable[[Fixture], None]] = {
    "beit_pretrain": beit.beit_pretrain,
    "beit_finetune_same": beit.beit_finetune,
    "beit_finetune_interp": beit.beit_finetune,
    "relpos_resize": beit.relpos_resize,
    "init_stats": beit.init_stats,
    "param_groups": beit.param_groups,
    "masking": training.masking,
    "masking_exact": training.masking_exact,
    "schedules": training.schedules,
    "dalle_encoder": tokens.dalle_encoder,
    "dalle_decoder": tokens.dalle_decoder,
    "dalle_pixels": tokens.dalle_pixels,
    "discrete_vae": tokens.discrete_vae,
    "views": data.views,
    "protocol": data.protocol,
}

FAMILIES = {"heartbeit": HEARTBEIT}


def check(fixture: Fixture) -> None:
    """AssertionError where the project's numbers are not the fixture's; a kind that nothing checks is one, too."""
    kinds = FAMILIES[fixture.family]
    assert fixture.kind in kinds, f"the family {fixture.family} has no kind {fixture.kind}; it has {', '.join(kinds)}"
    kinds[fixture.kind](fixture)
