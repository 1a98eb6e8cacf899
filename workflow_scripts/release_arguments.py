"""Arguments that the scripts of a release share."""

import argparse
import json
from pathlib import Path


def add_release(parser: argparse.ArgumentParser) -> None:
    """What is released, and what was found out about it."""
    parser.add_argument("--precisions", required=True, nargs="+", help="those that are released")
    parser.add_argument("--manifest", required=True, type=Path, help="manifest.json")
    parser.add_argument("--verification", required=True, nargs="+", help="<precision>.json")
    parser.add_argument("--headroom", required=True, help="headroom.json")
    parser.add_argument("--targets", nargs="+", default=[], help="target-<cpu>.json")
    parser.add_argument("--evaluation", nargs="+", default=[], help="<precision>.json")


def add_contents(parser: argparse.ArgumentParser) -> None:
    """What goes in besides the model."""
    parser.add_argument("--wavs", nargs="*", default=[], help="test recordings")
    parser.add_argument("--stated", required=True, type=json.loads, help="JSON: what is said of it")
    parser.add_argument("--title", required=True, help="what the archive is called")
