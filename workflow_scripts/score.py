"""Score one precision of an evaluation against what was said and against PyTorch."""

import argparse

from transducer2ncnn.base import errors, files
from transducer2ncnn.evaluation import heard, scoring
from transducer2ncnn.speech import recordings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--manifest", required=True, help="checked")
    parser.add_argument("--pytorch", required=True, nargs="+", help="what PyTorch recognised")
    parser.add_argument("--sherpa-ncnn", required=True, nargs="+", help="and sherpa-ncnn")
    parser.add_argument("--decoding", required=True, help="how both searched")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    found = scoring.score(
        recordings.read_checked(args.manifest),
        heard.read(args.pytorch),
        heard.read(args.sherpa_ncnn),
    )
    about = {"precision": args.precision, "decoding": args.decoding}
    files.write_json(args.output, about | found)
    wer, agreement = found["wer"], found["agreement"]
    print(
        f"{args.precision}: word error rate {wer['rate']:.2%} ({wer['low']:.2%} to "
        f"{wer['high']:.2%}), PyTorch {found['pytorch']['wer']['rate']:.2%}; "
        f"{agreement['same']} of {agreement['tokens']} tokens are PyTorch's"
    )


if __name__ == "__main__":
    errors.run(main)
