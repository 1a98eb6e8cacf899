"""Check the delivered files of all models in a results folder against their manifests."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors
from transducer2ncnn.workflow import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, type=Path)
    args = parser.parse_args()

    folders = sorted(f.parent for f in args.results.glob(f"*/{provenance.DELIVERED}"))
    if not folders:
        raise errors.UserError(f"{args.results}: holds no delivered model. Export one first.")
    differences = []
    for folder in folders:
        found = list(provenance.differences(folder))
        differences += found
        print(f"{folder}: {f'{len(found)} files differ' if found else 'as its manifest says'}")
    if differences:
        raise errors.UserError(
            "what was delivered is not what is there:\n"
            + "\n".join(f"  {line}" for line in differences)
            + "\nDelete what differs, and run snakemake to have it made again."
        )


if __name__ == "__main__":
    errors.run(main)
