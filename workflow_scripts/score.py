"""Score one precision of an evaluation against what was said and against PyTorch."""

import argparse

from transducer2ncnn.base import errors, files
from transducer2ncnn.evaluation import heard, judgement, scoring
from transducer2ncnn.evaluation.units import NAMES
from transducer2ncnn.speech import recordings
from workflow_scripts import scoring_arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", required=True)
    scoring_arguments.add(parser)
    parser.add_argument("--pytorch", required=True, nargs="+", help="what PyTorch recognised")
    parser.add_argument("--sherpa-ncnn", required=True, nargs="+", help="and sherpa-ncnn")
    parser.add_argument("--decoding", required=True, help="how both searched")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    utterances = recordings.read_checked(args.manifest)
    rules = scoring_arguments.rules(args, utterances)
    by_pytorch, by_sherpa = heard.read(args.pytorch), heard.read(args.sherpa_ncnn)
    found = scoring.score(utterances, by_pytorch, by_sherpa, rules)
    warnings = list(judgement.warnings(args.precision, found))
    about = {"precision": args.precision, "decoding": args.decoding, "warnings": warnings}
    files.write_json(args.output, about | found)
    for warning in warnings:
        print(f"warning: {warning}")
    wer, agreement = found["wer"], found["agreement"]
    print(
        f"{args.precision}: {NAMES[rules.unit].rate} {wer['rate']:.2%} ({wer['low']:.2%} to "
        f"{wer['high']:.2%}), PyTorch {found['pytorch']['wer']['rate']:.2%}; "
        f"{agreement['same']} of {agreement['tokens']} tokens are PyTorch's"
    )


if __name__ == "__main__":
    errors.run(main)
