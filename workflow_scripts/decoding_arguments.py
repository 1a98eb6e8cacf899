"""Arguments of the scripts that decode an evaluation."""

import argparse
from collections.abc import Sequence

from transducer2ncnn.engines import hotwords
from transducer2ncnn.engines.search import Decoding
from transducer2ncnn.formats.sherpa import NEVER_EMITTED


def add_shard(parser: argparse.ArgumentParser) -> None:
    """What a job of a shared-out decoding needs to know."""
    parser.add_argument("--manifest", required=True, help="checked")
    parser.add_argument("--tokens", required=True)
    add_decoding(parser)
    parser.add_argument("--shard", required=True, type=int, help="from 1 on")
    parser.add_argument("--shards", required=True, type=int)
    parser.add_argument("--cache", required=True, help="folder of what was decoded before")
    parser.add_argument("--code", required=True, help="a digest of the code that decodes")
    parser.add_argument("--output", required=True)


def add_decoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--decoding", required=True, help="greedy_search or modified_beam_search")
    parser.add_argument("--num-active-paths", type=int, default=1, help="of the latter")
    parser.add_argument("--hotwords", help="of the latter: a file of phrases")
    parser.add_argument("--hotwords-score", type=float, default=1.5)


def decoding(
    args: argparse.Namespace,
    symbols: Sequence[str],
    never_emitted: tuple[int, ...] = NEVER_EMITTED,
) -> Decoding:
    """
    Args:
        symbols: of the model's tokens, by id.

    Raises:
        UserError: the hotwords are none that the model can be asked for.
    """
    phrases = None
    if args.hotwords:
        phrases = hotwords.read(args.hotwords, symbols, args.hotwords_score)
    return Decoding(args.decoding, args.num_active_paths, phrases, never_emitted)
