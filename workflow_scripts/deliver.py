"""Put together the folder that sherpa-ncnn runs."""

import argparse
import json
from pathlib import Path

from transducer2ncnn import delivery, errors, layout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ncnn", required=True, help="folder of the verified ncnn files")
    parser.add_argument("--description", required=True, help="model.json")
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--output", required=True, help="the folder")
    args = parser.parse_args()

    description = json.loads(Path(args.description).read_text())
    delivery.deliver(layout.ncnn_files(args.ncnn), description, args.tokens, args.output)


if __name__ == "__main__":
    errors.run(main)
