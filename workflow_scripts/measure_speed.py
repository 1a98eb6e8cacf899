"""Measure how fast sherpa-ncnn runs each precision of a model, and in what memory."""

import argparse
import tempfile
from pathlib import Path

from transducer2ncnn.base import errors, files, reading
from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.evaluation import speed
from transducer2ncnn.export import assembly
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import tokens
from transducer2ncnn.speech import recordings
from workflow_scripts import decoding_arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--precision",
        required=True,
        action="append",
        nargs=7,
        metavar=("NAME", *(f"{part.upper()}_{x}" for part in PARTS for x in ("PARAM", "BIN"))),
    )
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--manifest", required=True, help="checked")
    decoding_arguments.add_decoding(parser)
    parser.add_argument("--rounds", required=True, type=int)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    utterances = recordings.read_checked(args.manifest)
    utterances = utterances[: speed.some([u.duration for u in utterances])]
    description = reading.read_json(args.description)
    architecture = described(description)
    tail_seconds = architecture.tail_seconds
    symbols = tokens.read(args.tokens, architecture.sizes.vocab_size)
    how = decoding_arguments.decoding(args, symbols)
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as temporary:
        folders = {}
        for name, *paths in args.precision:
            pairs = zip(map(Path, paths[::2]), map(Path, paths[1::2]), strict=True)
            folders[name] = Path(temporary, name)
            networks = dict(zip(PARTS, pairs, strict=True))
            assembly.assemble(networks, description, args.tokens, folders[name], assembly.link)
        sizes = {
            name: sum(file.stat().st_size for file in folder.iterdir())
            for name, folder in folders.items()
        }
        samples = [recordings.read(u) for u in utterances]
        found = speed.measure(folders, samples, args.rounds, args.threads, tail_seconds, how)
    files.write_json(
        args.output,
        {
            "threads": args.threads,
            "rounds": args.rounds,
            "seconds": sum(u.duration for u in utterances),
            "decoding": how.method,
            "cpu": speed.cpu(),
            "precisions": {
                name: figures | {"bytes": sizes[name]} for name, figures in found.items()
            },
        },
    )
    for name, figures in found.items():
        factor, memory = figures["real_time_factor"], figures["peak_memory_mb"]
        print(
            f"{name}: real-time factor {factor['median']:.3f} ({factor['min']:.3f} to "
            f"{factor['max']:.3f}), peak memory {memory['median']:.0f} MB"
        )


if __name__ == "__main__":
    errors.run(main)
