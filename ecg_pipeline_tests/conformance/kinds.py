"""Which check runs on which kind of fixture, and what family the project has."""

from collections.abc import Callable

from ecg_pipeline_tests.conformance import (
    beit,
    d_beta,
    data,
    ecg_fm,
    ecg_fm_data,
    ecg_fm_full_size,
    ecgfounder_preproc,
    net1d,
    tokens,
    training,
)
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

ECG_FM: dict[str, Callable[[Fixture], None]] = {
    "feature_extractor_core": ecg_fm.feature_extractor,
    "feature_extractor_variant": ecg_fm.feature_extractor,
    "encoder_core": ecg_fm.encoder,
    "encoder_variant": ecg_fm.encoder,
    "pretrain_eval_core": ecg_fm.pretrain_eval,
    "pretrain_eval_variant": ecg_fm.pretrain_eval,
    "pretrain_train_core": ecg_fm.pretrain_train,
    "pretrain_train_variant": ecg_fm.pretrain_train,
    "quantizer": ecg_fm.quantiser,
    "cmsc": ecg_fm.cmsc,
    "finetune": ecg_fm.finetune,
    "fullsize": ecg_fm_full_size.fullsize,
    "saliency": ecg_fm.saliency,
    "checkpoint_layout": ecg_fm_full_size.checkpoint_layout,
    "preprocess": ecg_fm_data.preprocess,
    "manifest": ecg_fm_data.manifest,
    "rlm": ecg_fm_data.random_lead_masks,
    "span_mask": ecg_fm_data.span_masks,
    "optimizer": ecg_fm_data.optimiser,
    "metrics": ecg_fm_data.metrics,
}

FOUNDER_DBETA: dict[str, Callable[[Fixture], None]] = {
    "net1d_12lead": net1d.net1d,
    "net1d_1lead": net1d.net1d,
    "net1d_fullsize": net1d.net1d_fullsize,
    "ecgfounder_preproc": ecgfounder_preproc.ecgfounder_preproc,
    "dbeta_small": d_beta.dbeta_small,
    "dbeta_ecg_fullsize": d_beta.dbeta_ecg_fullsize,
}

FAMILIES = {"heartbeit": HEARTBEIT, "ecg_fm": ECG_FM, "founder_dbeta": FOUNDER_DBETA}


def check(fixture: Fixture) -> None:
    """AssertionError where the project's numbers are not the fixture's; a kind that nothing checks is one, too."""
    kinds = FAMILIES[fixture.family]
    assert fixture.kind in kinds, f"the family {fixture.family} has no kind {fixture.kind}; it has {', '.join(kinds)}"
    kinds[fixture.kind](fixture)
