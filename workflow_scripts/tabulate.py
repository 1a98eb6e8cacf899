"""Put an evaluation's figures into one table."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, reading
from transducer2ncnn.evaluation import comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", required=True, nargs="+", type=Path, help="one a precision")
    parser.add_argument("--speed", required=True, type=Path)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    scores = [reading.read_json(path) for path in args.scores]
    speed = reading.read_json(args.speed)
    comparison.write(args.output, comparison.rows(scores, speed))


if __name__ == "__main__":
    errors.run(main)
