"""Arguments that several scripts take."""

import argparse
import json
from pathlib import Path

from transducer2ncnn.base.layout import PARTS, Files


def add_ncnn_files(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """--encoder, --decoder and --joiner, each with its two files."""
    for part in PARTS:
        parser.add_argument(
            f"--{prefix}{part}", required=True, nargs=2, type=Path, metavar=("PARAM", "BIN")
        )


def ncnn_files(args: argparse.Namespace, prefix: str = "") -> Files:
    return {part: tuple(getattr(args, prefix + part)) for part in PARTS}


def add_layers(parser: argparse.ArgumentParser) -> None:
    """What tells which layers of a model are looked at, and on which recordings."""
    add_ncnn_files(parser)
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    add_keep(parser)
    parser.add_argument("--wavs", required=True, nargs="+", type=Path)


def add_keep(parser: argparse.ArgumentParser) -> None:
    """--keep, layers that are not quantized whatever a precision says."""
    parser.add_argument("--keep", required=True, type=json.loads, help="JSON: names by part")
