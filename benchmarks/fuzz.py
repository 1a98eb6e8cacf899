"""Damage files at random, far more often than the tests, and see that every reader copes.

Run: python -m benchmarks.fuzz [--attempts 10000] [--first 0] [READER ...]
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzzing import attempts  # noqa: E402
from readers import readers  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help="names; all if left out")
    parser.add_argument("--attempts", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first attempt")
    args = parser.parse_args()

    numbers = range(args.first, args.first + args.attempts)
    failed = False
    for reader in readers():
        if args.readers and reader.name not in args.readers:
            continue
        with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
            failures = list(attempts(reader, numbers, Path(folder)))
        print(f"{reader.name}: {len(numbers):,} attempts, {len(failures)} failures", flush=True)
        for failure in failures[:5]:
            print(f"  attempt {failure.attempt}:\n{failure.what}", flush=True)
        failed = failed or bool(failures)
    sys.exit(failed)


if __name__ == "__main__":
    main()
