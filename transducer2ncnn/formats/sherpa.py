"""What sherpa-ncnn asks of an exported model's files, as of sherpa-ncnn 2.1.15."""

from __future__ import annotations

from collections.abc import Mapping

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats.param import Param, parse_layer

#: The context size of the decoder, fixed in sherpa-ncnn.
CONTEXT_SIZE = 2

BLANK = 0
#: Token ids that its search never emits, fixed in its code: the blank, and <unk>.
NEVER_EMITTED = (BLANK, 2)

META_DATA_TYPE = "SherpaMetaData"
#: ncnn writes an array under this minus its key, its length first.
ARRAY_KEY = -23300

#: The layer types that the ncnn inside sherpa-ncnn 2.1.15 registers (its layer_to_index finds
#: them; a test asks the library itself).
KNOWN_LAYERS = frozenset(
    """
    AbsVal ArgMax BNLL BatchNorm Bias BinaryOp CELU Cast Clip Concat Convolution Convolution1D
    Convolution3D ConvolutionDepthWise ConvolutionDepthWise1D ConvolutionDepthWise3D CopyTo Crop
    CumulativeSum Deconvolution Deconvolution1D Deconvolution3D DeconvolutionDepthWise
    DeconvolutionDepthWise1D DeconvolutionDepthWise3D DeepCopy DeformableConv2D Dequantize
    DetectionOutput Diag Dropout ELU Einsum Eltwise Embed Erf Exp ExpandDims Flatten Flip Fold
    GELU GLU GRU Gemm GridSample GroupNorm HardSigmoid HardSwish InnerProduct Input InstanceNorm
    Interp InverseSpectrogram LRN LSTM LayerNorm Log MVN MatMul MemoryData Mish MultiHeadAttention
    Noop Normalize PReLU PSROIPooling Packing Padding Permute PixelShuffle Pooling Pooling1D
    Pooling3D Power PriorBox Proposal Quantize RMSNorm RNN ROIAlign ROIPooling ReLU Reduction
    Reorg Requantize Reshape SELU SPP Scale Shrink ShuffleChannel Sigmoid Slice Softmax Softplus
    Spectrogram Split Squeeze StatisticsPooling Swish TanH Threshold Tile UnaryOp Unfold
    YoloDetectionOutput Yolov3DetectionOutput
    """.split()  # noqa: SIM905, a table rather than a column of strings
)


def check_layers(param: Param, name: str) -> None:
    """Refuse a graph that the ncnn inside sherpa-ncnn cannot run.

    Raises:
        UserError: naming each layer of a type it does not know, or a shape given as an
            expression, which it would misread without a word.
    """
    bad = [
        f"layer {layer.name} of type {layer.type}"
        for layer in param.layers
        if layer.type not in KNOWN_LAYERS
    ]
    bad += [
        f"layer {layer.name}, a {layer.type} whose parameter {key} is the expression {value}"
        for layer in param.layers
        for key, value in layer.params.items()
        if value.startswith('"')
    ]
    if bad:
        raise UserError(
            f"{name}: sherpa-ncnn's ncnn does not know {'; '.join(bad)}. The exported graph must "
            "use only layers that it has; another version of pnnx, or a change to the model's "
            "graph, is needed."
        )


def with_meta_data(param: Param, meta_data: Mapping[int, int | tuple[int, ...]]) -> Param:
    """The encoder's param as sherpa-ncnn wants it: its sizes stated by a layer in front.

    Args:
        meta_data: parameters by key; a tuple becomes one of ncnn's arrays.
    """
    values = " ".join(_parameter(key, value) for key, value in meta_data.items())
    layer = parse_layer(f"{META_DATA_TYPE:<24} {'sherpa_meta_data1':<24} 0 0 {values}")
    return Param((layer, *param.layers), param.num_blobs)


def _parameter(key: int, value: int | tuple[int, ...]) -> str:
    if isinstance(value, int):
        return f"{key}={value}"
    return f"{ARRAY_KEY - key}={','.join(map(str, (len(value), *value)))}"
