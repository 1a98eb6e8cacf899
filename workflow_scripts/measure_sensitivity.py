"""Measure what each format of a layer costs in fidelity by itself: a shard of a model's layers."""

import argparse
import hashlib
from pathlib import Path

from transducer2ncnn.base import errors, isolated, reading
from transducer2ncnn.evaluation import decoding
from transducer2ncnn.quantization import groups, sensitivity
from transducer2ncnn.speech import audio
from transducer2ncnn.workflow.staleness import versions
from workflow_scripts.arguments import add_layers, ncnn_files

DISTRIBUTIONS = ("ncnn", "kaldi-native-fbank", "soundfile", "soxr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_layers(parser)
    parser.add_argument("--shard", required=True, type=int, help="from 1 on")
    parser.add_argument("--shards", required=True, type=int)
    parser.add_argument("--cache", required=True, type=Path, help="folder of what was measured")
    parser.add_argument("--code", required=True, help="a digest of the code that measures")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()

    fp32, description = ncnn_files(args), reading.read_json(args.description)
    found = groups.find(fp32, description, args.keep)
    pairs = sensitivity.share(found, args.shard, args.shards)
    depends_on = [
        decoding.digest([path for pair in fp32.values() for path in pair]),
        decoding.digest([args.description, *args.wavs]),
        args.code,
        *versions(DISTRIBUTIONS),
    ]
    key = hashlib.sha256("".join(depends_on).encode()).hexdigest()[:16]
    recordings = {str(wav): audio.read(wav) for wav in args.wavs}
    try:
        measured = isolated.call(
            sensitivity.measure, fp32, description, recordings, pairs, args.cache / key
        )
    except isolated.IsolatedError as e:
        raise errors.UserError(f"ncnn cannot run the model with some layers in int8: {e}") from None
    sensitivity.write(args.output, measured)
    print(f"{args.output}: measured {len(measured)} formats of layers, of {len(found)} groups")


if __name__ == "__main__":
    errors.run(main)
