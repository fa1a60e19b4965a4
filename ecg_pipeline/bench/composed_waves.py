"""transformers' Wav2Vec2 for ECGs: what the compositions that our steps are compared with have in common."""

from typing import Any

from torch import nn

from ecg_pipeline.models.wav2vec2_shape import Wav2Vec2Shape


def wave_options(shape: Wav2Vec2Shape) -> dict[str, Any]:
    """Options of transformers' `Wav2Vec2Config` for an encoder of these sizes, without dropout."""
    return {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.mlp_width,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "layerdrop": 0.0,
        "conv_dim": shape.conv_widths,
        "conv_kernel": shape.conv_kernels,
        "conv_stride": shape.conv_strides,
        "conv_bias": shape.conv_bias,
        "num_conv_pos_embeddings": shape.position_kernel,
        "num_conv_pos_embedding_groups": shape.position_groups,
    }


def read_leads(waves: Any, shape: Wav2Vec2Shape) -> None:
    """Replace the first convolution of a `Wav2Vec2Model`, which reads one channel, by one that reads all leads."""
    waves.feature_extractor.conv_layers[0].conv = nn.Conv1d(
        shape.leads,
        shape.conv_widths[0],
        shape.conv_kernels[0],
        stride=shape.conv_strides[0],
        bias=shape.conv_bias,
    )
