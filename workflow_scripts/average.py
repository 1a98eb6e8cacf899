"""Average training checkpoints into one."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors
from transducer2ncnn.formats import checkpoint
from transducer2ncnn.source import averaging


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", required=True, nargs="+", type=Path)
    parser.add_argument(
        "--interval",
        action="store_true",
        help="average over what lies between two checkpoints, out of their running averages",
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    if args.interval:
        state = averaging.interval_mean(*args.checkpoints)
    else:
        state = averaging.mean(args.checkpoints)
    # The newest one's training parameters, among which settings may be that no tensor tells.
    training = checkpoint.Checkpoint(args.checkpoints[-1]).plain_values()
    checkpoint.save(args.output, state, training)
    how = "the interval between" if args.interval else "the mean of"
    print(f"{args.output}: {how} {', '.join(map(str, args.checkpoints))}")


if __name__ == "__main__":
    errors.run(main)
