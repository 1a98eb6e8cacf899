"""Fetch one file of a model on the Hugging Face Hub."""

import argparse
import json

from transducer2ncnn.base import errors
from transducer2ncnn.source import hub


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo-id", required=True)
    parser.add_argument("--commit", required=True)
    parser.add_argument(
        "--file", required=True, type=json.loads, help='{"path": …, "size": …, "hash": …}'
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    file = hub.HubFile(**args.file)
    hub.download(args.repo_id, args.commit, file, args.output)
    print(f"{file.path}: {file.size:,} bytes, as the Hub states them, of commit {args.commit}")


if __name__ == "__main__":
    errors.run(main)
