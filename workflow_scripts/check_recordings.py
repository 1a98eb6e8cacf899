"""Check what an evaluation is given, and write its recordings down in one format."""

import argparse

from transducer2ncnn.base import errors, reading
from transducer2ncnn.engines import hotwords
from transducer2ncnn.formats import tokens
from transducer2ncnn.speech import recordings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True, help="a TSV, lhotse cuts or a Kaldi folder")
    parser.add_argument("--root", help="where its corpus is")
    parser.add_argument(
        "--hotwords", nargs=3, metavar=("FILE", "TOKENS", "DESCRIPTION"), help="to be checked, too"
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    if args.hotwords:
        path, vocabulary, description = args.hotwords
        size = reading.read_json(description)["sizes"]["vocab_size"]
        hotwords.read(path, tokens.read(vocabulary, size), score=1.0)
    utterances = recordings.check(args.manifest, args.root)
    recordings.write_checked(args.output, utterances)
    seconds = sum(u.duration for u in utterances)
    print(f"{args.manifest}: {len(utterances)} recordings, {seconds:.1f} s, nothing wrong")


if __name__ == "__main__":
    errors.run(main)
