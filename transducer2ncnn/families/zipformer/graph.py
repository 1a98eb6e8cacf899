"""The Zipformer transducer's inference graph, over one chunk, and its sizes off a checkpoint.

Module and parameter names are those of the recipe, so a checkpoint's state dict loads as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.families.modules import (
    Decoder,
    DoubleSwish,
    Joiner,
    Shapes,
    Transducer,
    shared_sizes,
)
from transducer2ncnn.families.zipformer import (
    FAMILY,
    OUTPUT_DOWNSAMPLING,
    PAD_LENGTH,
    SUBSAMPLING,
    ZipformerArchitecture,
    ZipformerSizes,
    skipped_to,
)
from transducer2ncnn.families.zipformer.layer import POS_DIM
from transducer2ncnn.families.zipformer.stack import (
    Combiner,
    Downsample,
    DownsampledStack,
    LayerStack,
)

#: Channels of the three subsampling convolutions, and the stride of each in time and frequency.
CONV_CHANNELS = (8, 32, 128)
CONV_STRIDES = ((1, 1), (2, 2), (1, 2))
#: Channels that the decoder's convolution takes together. The recipe fixes it.
DECODER_GROUP = 4


class Conv2dSubsampling(nn.Module):
    """(T_in, feature_dim) → (T, C) with T = (T_in − 7)//2.

    Time is not padded: frame t sees just the feature frames 2t … 2t+8.
    """

    def __init__(self, feature_dim: int, dim: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.input_shape = (1, 1, SUBSAMPLING * frames + PAD_LENGTH, feature_dim)
        layers: list[nn.Module] = []
        channels_in = 1
        for channels, stride in zip(CONV_CHANNELS, CONV_STRIDES, strict=True):
            padding = (0, 1) if channels_in == 1 else (0, 0)
            # The Identity stands where the recipe has a balancer, which inference skips.
            layers += [
                nn.Conv2d(channels_in, channels, 3, stride, padding),
                nn.Identity(),
                DoubleSwish(),
            ]
            channels_in = channels
        self.conv = nn.Sequential(*layers)
        self.out = nn.Linear(CONV_CHANNELS[-1] * subsampled_bins(feature_dim), dim)

    def forward(self, x: Tensor) -> Tensor:
        # By ``reshape`` ncnn has three axes here. Two ``unsqueeze`` give it four, which the ncnn
        # inside sherpa-ncnn does not quantize: an int8 convolution then computes nonsense.
        x = self.conv(x.reshape(self.input_shape)).unsqueeze(1)  # (1, 1, 128, T, 19)
        x = x.permute(0, 1, 3, 2, 4).reshape(self.frames, self.out.in_features)  # channel-major
        return self.out(x)


class Encoder(nn.Module):
    def __init__(self, architecture: ZipformerArchitecture) -> None:
        super().__init__()
        sizes, stacks = architecture.sizes, architecture.stacks()
        frames = architecture.frames_per_chunk
        self.encoder_embed = Conv2dSubsampling(sizes.feature_dim, stacks[0].input_dim, frames)
        self.encoders = nn.ModuleList(
            LayerStack(stack) if stack.factor == 1 else DownsampledStack(stack) for stack in stacks
        )
        self.skips = [skipped_to(sizes.downsampling_factors, i) for i in range(len(stacks))]
        self.skip_modules = nn.ModuleList(
            nn.Identity() if skip is None else Combiner(stacks[skip].dim, stack.input_dim)
            for skip, stack in zip(self.skips, stacks, strict=True)
        )
        self.downsample_output = Downsample(
            frames, sizes.encoder_dim, sizes.encoder_dim, OUTPUT_DOWNSAMPLING
        )

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """A segment's features to its embeddings, the states carried over.

        Args:
            x: (decode_chunk_len + 7, feature_dim) log-mel features.
            states: ``ZipformerArchitecture.states``; zeros at the start of an utterance.

        Returns:
            (decode_chunk_len / 4, encoder_dim), and the next states.
        """
        x = self.encoder_embed(x)
        outputs: list[Tensor] = []
        # By kind and then by stack, as sherpa-ncnn has them.
        next_states: list[list[Tensor]] = []
        number = len(self.encoders)
        for i, (stack, skip) in enumerate(zip(self.encoders, self.skips, strict=True)):
            if skip is not None:
                x = self.skip_modules[i](outputs[skip], x)
            x, own = stack(x, states[i::number])
            outputs.append(x)
            next_states.append(own)
        by_kind = (state for kind in zip(*next_states, strict=True) for state in kind)
        return (self.downsample_output(x), *by_kind)


def build(architecture: ZipformerArchitecture) -> Transducer:
    return Transducer(
        architecture,
        Encoder(architecture),
        Decoder(architecture.sizes, channels_per_group=DECODER_GROUP),
        Joiner(architecture.sizes),
    )


def subsampled_bins(n: int) -> int:
    """Feature bins left of ``n`` after the three convolutions."""
    return ((n - 1) // 2 - 1) // 2


def read_sizes(tensors: Mapping[str, Tensor]) -> ZipformerSizes:
    """Sizes off a checkpoint's tensors.

    Raises:
        UserError: a tensor that the sizes are read from is missing or has the wrong rank, or two
            of them contradict each other.
    """
    shapes = Shapes(tensors, FAMILY.title)
    embed_dim, subsampled = shapes.of("encoder.encoder_embed.out.weight", 2)
    bins = subsampled // CONV_CHANNELS[-1]
    stacks = [_read_stack(shapes, s) for s in range(shapes.count(r"encoder\.encoders\.(\d+)\."))]
    if not stacks:
        raise UserError(f"not {FAMILY.title}: no tensor is named 'encoder.encoders.0.…'.")
    sizes = ZipformerSizes(
        # Several feature dims leave the same number of bins; kaldi's multiples of 8 settle it.
        feature_dim=next(
            (f for f in range(8, 1024, 8) if subsampled_bins(f) == bins), 4 * bins + 3
        ),
        encoder_dim=stacks[-1]["dim"],
        num_encoder_layers=tuple(stack["layers"] for stack in stacks),
        encoder_dims=tuple(stack["dim"] for stack in stacks),
        attention_dims=tuple(stack["attention"] for stack in stacks),
        feedforward_dims=tuple(stack["feedforward"] for stack in stacks),
        nhead=tuple(stack["heads"] for stack in stacks),
        cnn_module_kernels=tuple(stack["kernel"] for stack in stacks),
        downsampling_factors=tuple(stack["factor"] for stack in stacks),
        **shared_sizes(shapes),
    )
    _check_sizes(sizes, embed_dim)
    _check_skips(sizes, shapes)
    return sizes


def _read_stack(shapes: Shapes, number: int) -> dict[str, int]:
    """Sizes of one stack, read off its first layer; ``check_tensors`` compares the others."""
    stack = f"encoder.encoders.{number}."
    downsampled = stack + "upsample.bias" in shapes
    layers = stack + ("encoder.layers." if downsampled else "layers.")
    factor = shapes.of(stack + "upsample.bias", 2)[0] if downsampled else 1
    if downsampled and factor < 2:
        raise UserError(
            f"tensor {stack + 'upsample.bias'!r} has {factor} rows, expected 2 or more: a stack "
            "that is not downsampled has no such tensor."
        )
    first = layers + "0."
    dim = shapes.of(first + "pooling.proj.weight", 2)[0]
    attention = 2 * shapes.of(first + "self_attn.out_proj.weight", 2)[1]
    positions = shapes.of(first + "self_attn.linear_pos.weight", 2)[0]
    if positions < POS_DIM or positions % POS_DIM:
        raise UserError(
            f"tensor {first + 'self_attn.linear_pos.weight'!r} has {positions} rows, expected "
            f"{POS_DIM} for each head."
        )
    heads = positions // POS_DIM
    if attention < 1 or attention % (2 * heads):
        raise UserError(
            f"stack {number} has {heads} heads by its linear_pos and the attention dim {attention} "
            f"by its out_proj; expected a multiple of {2 * heads}."
        )
    rows = shapes.of(first + "self_attn.in_proj.weight", 2)[0]
    if rows != attention * 5 // 2 + positions:
        raise UserError(
            f"tensor {first + 'self_attn.in_proj.weight'!r} has {rows} rows, expected "
            f"{attention * 5 // 2 + positions}: its out_proj tells the attention dim {attention}, "
            f"its linear_pos {heads} heads."
        )
    return {
        "layers": shapes.count(re.escape(layers) + r"(\d+)\."),
        "dim": dim,
        "attention": attention,
        "heads": heads,
        "feedforward": shapes.of(first + "feed_forward1.in_proj.weight", 2)[0],
        "kernel": shapes.of(first + "conv_module1.depthwise_conv.weight", 3)[2],
        "factor": factor,
    }


def _check_sizes(sizes: ZipformerSizes, embed_dim: int) -> None:
    if sizes.decoder_dim % DECODER_GROUP:
        raise UserError(
            f"the decoder's dim is {sizes.decoder_dim}, expected a multiple of {DECODER_GROUP}: "
            "its convolution takes so many channels together."
        )
    for i, kernel in enumerate(sizes.cnn_module_kernels):
        if kernel < 3 or kernel % 2 == 0:
            raise UserError(
                f"stack {i} has depthwise convolutions {kernel} frames wide, expected an odd "
                "number from 3 on."
            )
    before = (embed_dim, *sizes.encoder_dims)
    for i, (dim, factor) in enumerate(
        zip(sizes.encoder_dims, sizes.downsampling_factors, strict=True)
    ):
        if dim < before[i] or (dim != before[i] and (factor == 1 or i == 0)):
            raise UserError(
                f"stack {i} has the dim {dim}, and what comes before it {before[i]}. Expected the "
                "same, or more where a stack other than the first is downsampled."
            )


def _check_skips(sizes: ZipformerSizes, shapes: Shapes) -> None:
    for i in range(len(sizes.encoder_dims)):
        name = f"encoder.skip_modules.{i}.weight1"
        expected = skipped_to(sizes.downsampling_factors, i) is not None
        if (name in shapes) != expected:
            factors = ", ".join(map(str, sizes.downsampling_factors))
            raise UserError(
                f"tensor {name!r} is {'missing' if expected else 'there'}. With the downsampling "
                f"factors {factors}, which the rows of each stack's upsample.bias tell, there is "
                f"{'one' if expected else 'none'}."
            )
