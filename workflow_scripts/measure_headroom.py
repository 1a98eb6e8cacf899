"""Measure how near a model's numbers come to what fp16 holds; refuse what is beyond."""

import argparse
import math
from itertools import islice
from pathlib import Path

import numpy as np

from transducer2ncnn.base import errors, files, isolated, reading
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import npz
from transducer2ncnn.speech import audio
from transducer2ncnn.speech.features import SAMPLE_RATE
from transducer2ncnn.verification import headroom, proof
from workflow_scripts.arguments import add_ncnn_files, ncnn_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_ncnn_files(parser)
    parser.add_argument("--reference", required=True, help="reference.npz")
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--wavs", nargs="*", default=[])
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    architecture = described(reading.read_json(args.description))
    recordings = read(args.wavs)
    with npz.opened(args.reference, "PyTorch's outputs") as arrays:
        modules = {
            part: [(x.kind, x.name) for x in proof.from_arrays(arrays, part).modules]
            for part in PARTS
        }
    folder = args.encoder[0].parent
    try:
        found = isolated.call(headroom.measure, ncnn_files(args), architecture, modules, recordings)
    except isolated.IsolatedError as e:
        raise errors.UserError(f"{folder}: ncnn cannot run these files: {e}") from None
    for entry in found["kinds"]:
        print(headroom.in_words(entry))
    headroom.check(found, str(folder))
    files.write_json(args.output, found)
    for warning in found["warnings"]:
        print(f"warning: {warning}")
    largest = found["kinds"][0]["largest"]
    print(f"{folder}: no value is above {largest:,.0f}, and fp16 holds {headroom.LIMIT:,.0f}")


def read(wavs: list[str]) -> list[tuple[str, np.ndarray]]:
    """As many recordings, by name, as the measurement takes."""
    recordings: list[tuple[str, np.ndarray]] = []
    left = float(headroom.SECONDS)
    for wav in wavs:
        if left > 0:
            blocks = islice(audio.blocks(wav), math.ceil(left / audio.BLOCK_SECONDS))
            recordings.append((wav, np.concatenate(list(blocks))))
            left -= len(recordings[-1][1]) / SAMPLE_RATE
    return recordings


if __name__ == "__main__":
    errors.run(main)
