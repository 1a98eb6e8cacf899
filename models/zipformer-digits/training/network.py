"""The model's sizes and settings, fresh weights, and its checkpoint in icefall's form."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
import vocabulary
from torch import Tensor, nn

from transducer2ncnn.families.modules import BasicNorm, Transducer
from transducer2ncnn.families.zipformer import (
    ZipformerArchitecture,
    ZipformerSettings,
    ZipformerSizes,
    graph,
)
from transducer2ncnn.families.zipformer.layer import (
    Convolution,
    FeedForward,
    Pooling,
    SelfAttention,
)
from transducer2ncnn.families.zipformer.stack import Downsample

STACKS = 5
SIZES = ZipformerSizes(
    feature_dim=80,
    encoder_dim=96,
    decoder_dim=96,
    joiner_dim=128,
    vocab_size=vocabulary.VOCAB_SIZE,
    context_size=2,
    num_encoder_layers=(1, 2, 1, 1, 2),
    encoder_dims=(96,) * STACKS,
    attention_dims=(64,) * STACKS,
    feedforward_dims=(192,) * STACKS,
    nhead=(4,) * STACKS,
    cnn_module_kernels=(15, 15, 7, 7, 15),
    downsampling_factors=(1, 2, 4, 8, 2),
)
SETTINGS = ZipformerSettings(decode_chunk_len=32, num_left_chunks=4)
#: The features come to the network with about this mean and deviation taken off; the saved model
#: has it folded into its first convolution.
FEATURE_MEAN, FEATURE_STD = -9.0, 4.0


def new_model() -> Transducer:
    """With fresh weights: every module of a layer adds less than what comes in."""
    model = graph.build(ZipformerArchitecture(SIZES, SETTINGS))
    embed = model.encoder.encoder_embed
    with torch.no_grad():
        for i in (0, 3, 6):
            spread(embed.conv[i], 1.0 if i == 0 else 2.0)
        spread(embed.out, 2.0)
        for module in model.encoder.modules():
            if isinstance(module, FeedForward):
                spread(module.in_proj, 1.0)
                spread(module.out_proj, 0.5)
            elif isinstance(module, Pooling):
                spread(module.proj, 0.3)
            elif isinstance(module, SelfAttention):
                # Scores are not divided by anything: larger queries and keys explode.
                spread(module.in_proj, 0.4)
                attention = module.stack.attention_dim
                module.in_proj.weight[2 * attention : attention * 5 // 2] *= 2.5
                spread(module.linear_pos, 0.4)
                spread(module.in_proj2, 1.0)
                spread(module.out_proj, 0.5)
                spread(module.out_proj2, 0.5)
            elif isinstance(module, Convolution):
                spread(module.pointwise_conv1, 1.0)
                spread(module.depthwise_conv, 1.0)
                spread(module.pointwise_conv2, 0.5)
            elif isinstance(module, Downsample):
                nn.init.normal_(module.query, std=len(module.query) ** -0.5)
        nn.init.normal_(model.decoder.embedding.weight)
        # All different, so that a converter that loses one gives itself away.
        norms = [m for m in model.encoder.modules() if isinstance(m, BasicNorm)]
        for i, norm in enumerate(norms):
            norm.eps.fill_(math.log(0.2 + 0.02 * i))
        # Most frames say nothing.
        model.joiner.output_linear.bias[0] = 4.0
    return model


def spread(layer: nn.Module, gain: float) -> None:
    nn.init.normal_(layer.weight, std=gain * layer.weight[0].numel() ** -0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def normalised(features: Tensor) -> Tensor:
    return (features - FEATURE_MEAN) / FEATURE_STD


def folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """For features as they are: the first convolution does what ``normalised`` did."""
    state = dict(state)
    key = "encoder.encoder_embed.conv.0."
    weight = state[key + "weight"] / FEATURE_STD
    state[key + "bias"] = state[key + "bias"] - FEATURE_MEAN * weight.sum(dim=(1, 2, 3))
    state[key + "weight"] = weight
    return state


def save_checkpoint(state: dict[str, Tensor], path: Path) -> None:
    """As icefall publishes models: ``{"model": …}``."""
    save({"model": {k: v.detach().float().cpu().clone() for k, v in folded(state).items()}}, path)


def save(content: dict[str, Any], path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> Transducer:
    model = graph.build(ZipformerArchitecture(SIZES, SETTINGS))
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    return model.eval().requires_grad_(False)
