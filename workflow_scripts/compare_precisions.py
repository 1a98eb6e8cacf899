"""Compare the error rates of every two systems of an evaluation, PyTorch among them."""

import argparse

from transducer2ncnn.base import errors, files
from transducer2ncnn.evaluation import heard, scoring
from transducer2ncnn.speech import recordings
from workflow_scripts import scoring_arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    scoring_arguments.add(parser)
    parser.add_argument("--pytorch", required=True, nargs="+", help="what PyTorch recognised")
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

    systems = {"pytorch": heard.read(args.pytorch)}
    systems |= {precision: heard.read(shards) for precision, *shards in args.heard}
    utterances = recordings.read_checked(args.manifest)
    rules = scoring_arguments.rules(args, utterances)
    pairs = scoring.compare(utterances, systems, rules)
    files.write_json(args.output, {"unit": rules.unit, "pairs": pairs})


if __name__ == "__main__":
    errors.run(main)
