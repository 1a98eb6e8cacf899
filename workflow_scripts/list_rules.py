"""Write down which rules make a model's artifacts, and which depends on which."""

import argparse
import json

from transducer2ncnn.base import errors, files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", required=True, type=json.loads, help="and their edges, as JSON")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    files.write_json(args.output, args.rules)


if __name__ == "__main__":
    errors.run(main)
