"""Full-size models with random weights, in the form in which icefall's checkpoints are published.

Sizes are those of icefall's LibriSpeech models, one of each family. Weights are tamed: a network of
so many layers with weights of unit gain is chaotic, and what rounding does to it says nothing about
a trained one. PyTorch's own initial values have a gain of 0.58; beyond that,

- what the layers of a Zipformer or ConvEmformer add to their input is made smaller by RESIDUAL, and
  what attention's scores are computed from by ATTENTION;
- the kernels of their first convolution have a mean of zero, so that they see no constant. That of
  log-mel features is large.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from transducer2ncnn.families import model, registry
from transducer2ncnn.families.contract import Architecture, Settings
from transducer2ncnn.families.conv_emformer import (
    ConvEmformer,
    ConvEmformerSettings,
    ConvEmformerSizes,
)
from transducer2ncnn.families.lstm import LstmArchitecture, LstmSizes
from transducer2ncnn.families.zipformer import (
    ZipformerArchitecture,
    ZipformerSettings,
    ZipformerSizes,
)
from transducer2ncnn.speech.features import SAMPLE_RATE

RESIDUAL, ATTENTION = 0.6, 0.7
#: Names of weights that make what is added to a layer's input.
_ADDED = re.compile(
    r".*(out_proj2?|feed_forward\w*\.4|pointwise_conv2|pooling\.proj)\.(weight|bias)"
)
_SCORING = re.compile(r".*(self_attn\.in_proj|emb_to_query)\.(weight|bias)")

_SHARED = {
    "feature_dim": 80,
    "decoder_dim": 512,
    "joiner_dim": 512,
    "vocab_size": 500,
    "context_size": 2,
}

#: The full-size model of each family.
FULL_SIZE: dict[str, Architecture[Any, Any]] = {
    "lstm": LstmArchitecture(
        LstmSizes(
            **_SHARED,
            encoder_dim=512,
            num_encoder_layers=12,
            rnn_hidden_size=1024,
            dim_feedforward=2048,
        ),
        Settings(),
    ),
    "zipformer": ZipformerArchitecture(
        ZipformerSizes(
            **_SHARED,
            encoder_dim=384,
            num_encoder_layers=(2, 4, 3, 2, 4),
            encoder_dims=(384,) * 5,
            attention_dims=(192,) * 5,
            feedforward_dims=(1024, 1024, 2048, 2048, 1024),
            nhead=(8,) * 5,
            cnn_module_kernels=(31,) * 5,
            downsampling_factors=(1, 2, 4, 8, 2),
        ),
        ZipformerSettings(decode_chunk_len=32, num_left_chunks=4),
    ),
    "conv_emformer": ConvEmformer(
        ConvEmformerSizes(
            **_SHARED,
            encoder_dim=512,
            num_encoder_layers=12,
            dim_feedforward=2048,
            cnn_module_kernel=31,
        ),
        ConvEmformerSettings(
            nhead=8,
            chunk_length=32,
            left_context_length=32,
            right_context_length=8,
            memory_size=32,
        ),
    ),
}

#: Parameters of encoder, decoder and joiner, as icefall's own export counts them.
PARAMETERS = {
    "lstm": (83_137_520, 257_024, 781_812),
    "zipformer": (68_944_004, 260_096, 716_276),
    "conv_emformer": (73_937_904, 257_024, 781_812),
}


def random_state(family: str) -> dict[str, torch.Tensor]:
    """The tensors of a family's full-size checkpoint, always the same.

    Those of recipes with scaled layers have a scale each, which the export folds.
    """
    torch.manual_seed(0)
    network = model.untrained(registry.find(family), FULL_SIZE[family])
    state = {}
    for name, tensor in network.state_dict().items():
        if family != "lstm":
            tensor = _tamed(name, tensor)
        if family == "zipformer" or name.endswith("eps"):
            state[name] = tensor
            continue
        scale = torch.empty(()).uniform_(-0.5, 0.5)
        embedding = name.endswith("embedding.weight")
        state[name] = tensor / scale.exp()
        state[name.replace("weight", "scale") if embedding else name + "_scale"] = scale
    return state


def _tamed(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if _ADDED.fullmatch(name):
        return tensor * RESIDUAL
    if _SCORING.fullmatch(name):
        return tensor * ATTENTION
    if name == "encoder.encoder_embed.conv.0.weight":
        return tensor - tensor.mean(dim=(2, 3), keepdim=True)
    if name.endswith((".query", "upsample.bias")):  # zeros, untrained
        return torch.randn_like(tensor) * 0.1
    if name.endswith((".bypass_scale", ".weight1")):  # a half
        return torch.empty_like(tensor).uniform_(0.3, 0.7)
    return tensor


def write_model(folder: Path, family: str = "lstm") -> None:
    """pretrained.pt and tokens.txt."""
    torch.save({"model": random_state(family)}, folder / "pretrained.pt")
    write_tokens(folder / "tokens.txt", FULL_SIZE[family].sizes.vocab_size)


def write_tokens(path: Path, vocab_size: int) -> None:
    symbols = ["<blk>", "<sos/eos>", "<unk>", *(f"▁T{i}" for i in range(3, vocab_size))]
    lines = [f"{symbol} {i}\n" for i, symbol in enumerate(symbols)]
    path.write_text("".join(lines), encoding="utf-8")


def write_recordings(folder: Path, number: int, seconds: float) -> None:
    """Bursts of noise, which keep a random model's activations as busy as speech does.

    Args:
        seconds: of audio, in all.
    """
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(number):
        n = int(seconds / number * SAMPLE_RATE)
        level = np.repeat(rng.uniform(0, 0.3, n // 1600 + 1), 1600)[:n]
        soundfile.write(folder / f"{i}.wav", rng.standard_normal(n) * level, SAMPLE_RATE)


def stated(family: str, **more: str) -> dict[str, Any]:
    """The model's entry in a configuration, for what ``write_model`` wrote."""
    return {
        "checkpoint": "pretrained.pt",
        "tokens": "tokens.txt",
        "family": family,
        "settings": vars(FULL_SIZE[family].settings),
        **more,
    }
