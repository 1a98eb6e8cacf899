"""Measure how long each layer takes in each of its formats, on this machine."""

import argparse
from pathlib import Path

import numpy as np

from transducer2ncnn.base import errors, files, isolated, reading
from transducer2ncnn.quantization import groups, timing
from transducer2ncnn.speech import audio
from workflow_scripts.arguments import add_layers, ncnn_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_layers(parser)
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()

    fp32, description = ncnn_files(args), reading.read_json(args.description)
    found = groups.find(fp32, description, args.keep)
    samples = np.concatenate([audio.read(wav) for wav in args.wavs])
    try:
        times = isolated.call(timing.measure, fp32, description, samples, found)
    except isolated.IsolatedError as e:
        raise errors.UserError(f"ncnn cannot run the model's layers by themselves: {e}") from None
    files.write_json(args.output, times)


if __name__ == "__main__":
    errors.run(main)
