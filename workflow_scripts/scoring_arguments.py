"""Arguments of the scripts that compare texts."""

import argparse
import json
from pathlib import Path

from transducer2ncnn.base import reading
from transducer2ncnn.evaluation import scoring, units
from transducer2ncnn.evaluation.units import Normalisation
from transducer2ncnn.formats import tokens
from transducer2ncnn.speech.recordings import Utterance


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", required=True, help="checked")
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--tokens", required=True)
    add_rules(parser)


def add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unit", choices=units.NAMES, help="what is counted; the script decides if not given"
    )
    parser.add_argument(
        "--normalise",
        required=True,
        type=json.loads,
        help='what makes no difference: {"case": …, "punctuation": …, "full_width": …}',
    )


def rules(args: argparse.Namespace, utterances: list[Utterance]) -> scoring.Rules:
    size = reading.read_json(args.description)["sizes"]["vocab_size"]
    symbols = tokens.read(args.tokens, size)
    return rules_for(args, utterances, symbols)


def rules_for(
    args: argparse.Namespace, utterances: list[Utterance], symbols: list[str]
) -> scoring.Rules:
    return scoring.rules_for(utterances, symbols, args.unit, Normalisation(**args.normalise))
