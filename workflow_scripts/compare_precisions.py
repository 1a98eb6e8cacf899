"""Compare the word error rates of every two precisions of an evaluation."""

import argparse

from transducer2ncnn.base import errors, files
from transducer2ncnn.evaluation import heard, scoring
from transducer2ncnn.speech import recordings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True, help="checked")
    parser.add_argument(
        "--heard",
        required=True,
        action="append",
        nargs="+",
        metavar=("PRECISION", "SHARD"),
        help="a precision and what sherpa-ncnn recognised with it",
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    precisions = {precision: heard.read(shards) for precision, *shards in args.heard}
    pairs = scoring.compare(recordings.read_checked(args.manifest), precisions)
    files.write_json(args.output, {"pairs": pairs})


if __name__ == "__main__":
    errors.run(main)
