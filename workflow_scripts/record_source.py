"""Record where a model comes from: its source, and the fingerprints of its files."""

import argparse
import json

from transducer2ncnn.base import errors, files
from transducer2ncnn.base.fingerprints import fingerprint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, type=json.loads, help="what the config says")
    parser.add_argument("--files", required=True, nargs="+", help="checkpoints and vocabulary")
    parser.add_argument("--names", required=True, nargs="+", help="what to call them, in order")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    named = zip(args.names, args.files, strict=True)
    fingerprints = {name: fingerprint(file) for name, file in named}
    files.write_json(args.output, args.source | {"files": fingerprints})


if __name__ == "__main__":
    errors.run(main)
