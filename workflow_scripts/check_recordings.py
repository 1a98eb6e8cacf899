"""Check a manifest of recordings and transcripts, and write it down in one format."""

import argparse

from transducer2ncnn.base import errors
from transducer2ncnn.speech import recordings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True, help="a TSV, lhotse cuts or a Kaldi folder")
    parser.add_argument("--root", help="where its corpus is")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    utterances = recordings.check(args.manifest, args.root)
    recordings.write_checked(args.output, utterances)
    seconds = sum(u.duration for u in utterances)
    print(f"{args.manifest}: {len(utterances)} recordings, {seconds:.1f} s, nothing wrong")


if __name__ == "__main__":
    errors.run(main)
