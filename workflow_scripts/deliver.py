"""Put together the folder that sherpa-ncnn runs, and let it run it."""

import argparse

from transducer2ncnn.base import errors, files, reading
from transducer2ncnn.evaluation import gate
from transducer2ncnn.export import delivery
from transducer2ncnn.formats import tokens, vocabulary
from workflow_scripts.arguments import add_ncnn_files, ncnn_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_ncnn_files(parser)
    parser.add_argument("--description", required=True, help="model.json")
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--output", required=True, help="the folder")
    parser.add_argument("--record", required=True, help="what was delivered, to check it by")
    parser.add_argument(
        "--gate",
        nargs=2,
        metavar=("EVALUATION", "MAX_RISE"),
        help="refuse a model whose word error rate rose by more percentage points",
    )
    args = parser.parse_args()

    if args.gate:
        evaluation, max_rise = args.gate
        gate.check_rise(reading.read_json(evaluation), float(max_rise))
    description = reading.read_json(args.description)
    delivered = delivery.deliver(ncnn_files(args), description, args.tokens, args.output)
    symbols = tokens.read(args.tokens, description["sizes"]["vocab_size"])
    for warning in vocabulary.warnings(symbols):
        print(f"warning: {warning}")
    files.write_json(args.record, {"files": delivered})


if __name__ == "__main__":
    errors.run(main)
