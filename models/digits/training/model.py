"""The model's sizes, and its checkpoint in icefall's form."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import torch
import vocabulary
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import transducer2ncnn.families.model
from transducer2ncnn.families.contract import Settings
from transducer2ncnn.families.lstm import LstmArchitecture, LstmSizes
from transducer2ncnn.families.lstm.graph import build
from transducer2ncnn.families.modules import Transducer

SIZES = LstmSizes(
    feature_dim=80,
    num_encoder_layers=2,
    encoder_dim=128,
    rnn_hidden_size=256,
    dim_feedforward=384,
    decoder_dim=96,
    joiner_dim=128,
    vocab_size=vocabulary.VOCAB_SIZE,
    context_size=2,
)
#: exp(eps) of the norms: after the convolutions, after each layer.
NORM_EPS = (0.25, 0.2, 0.3)
#: The features come to the network with about this mean and deviation taken off; the saved
#: model has it folded into its first convolution.
FEATURE_MEAN, FEATURE_STD = -9.0, 4.0
#: What icefall's initialisation gives a stored tensor; its log-scale carries the rest.
STORED_RMS = 0.1


def new_model() -> Transducer:
    """With fresh weights, big enough that the sound reaches the joiner.

    PyTorch's own initialisation lets every convolution shrink its input several times, and the
    training then takes long to notice that there is an input.
    """
    model = build(LstmArchitecture(SIZES, Settings()))
    convolutions = model.encoder.encoder_embed
    with torch.no_grad():
        for i in (0, 3, 6):
            _spread(convolutions.conv[i], 1.0 if i == 0 else 2.0)
        _spread(convolutions.out, 2.0)
        convolutions.out_norm.eps.fill_(math.log(NORM_EPS[0]))
        for layer, eps in zip(model.encoder.encoder.layers, NORM_EPS[1:], strict=True):
            layer.lstm.weight_hr_l0.mul_(3.0)
            layer.lstm.bias_ih_l0[SIZES.rnn_hidden_size : 2 * SIZES.rnn_hidden_size] += 1.0
            _spread(layer.feed_forward[0], 1.0)
            _spread(layer.feed_forward[4], 0.7)
            layer.norm_final.eps.fill_(math.log(eps))
        # Most frames say nothing.
        model.joiner.output_linear.bias[0] = 4.0
    return model


def _spread(layer: nn.Module, gain: float) -> None:
    nn.init.normal_(layer.weight, std=gain * layer.weight[0].numel() ** -0.5)
    nn.init.zeros_(layer.bias)


def initial_states(n: int) -> tuple[Tensor, Tensor]:
    layers = SIZES.num_encoder_layers
    return torch.zeros(layers, n, SIZES.encoder_dim), torch.zeros(layers, n, SIZES.rnn_hidden_size)


def folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """For features as they are: the first convolution does what ``normalised`` did."""
    state = dict(state)
    key = "encoder.encoder_embed.conv.0."
    weight = state[key + "weight"] / FEATURE_STD
    state[key + "bias"] = state[key + "bias"] - FEATURE_MEAN * weight.sum(dim=(1, 2, 3))
    state[key + "weight"] = weight
    return state


def unfolded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = dict(state)
    key = "encoder.encoder_embed.conv.0."
    weight = state[key + "weight"]
    state[key + "bias"] = state[key + "bias"] + FEATURE_MEAN * weight.sum(dim=(1, 2, 3))
    state[key + "weight"] = weight * FEATURE_STD
    return state


def save_checkpoint(state: dict[str, Tensor], path: Path) -> None:
    """In icefall's form: every tensor next to its log-scale; the norms' eps as they are."""
    stored = {}
    for key, tensor in state.items():
        tensor = tensor.detach().float()
        if key.endswith(".eps"):
            stored[key] = tensor.clone()
            continue
        scale = (tensor.square().mean().sqrt().clamp_min(1e-8) / STORED_RMS).log()
        stored[key] = tensor / scale.exp()
        name = "decoder.embedding.scale" if key == "decoder.embedding.weight" else key + "_scale"
        stored[name] = scale
    temporary = path.with_suffix(".tmp")
    torch.save({"model": stored}, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> Transducer:
    return transducer2ncnn.families.model.load(path, "lstm")
