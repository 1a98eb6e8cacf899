"""Decode one shard of an evaluation with the checkpoint, in PyTorch: the reference."""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base import errors, reading
from transducer2ncnn.engines import search
from transducer2ncnn.evaluation import decoding, heard
from transducer2ncnn.formats import tokens, vocabulary
from transducer2ncnn.speech import recordings
from transducer2ncnn.workflow.staleness import versions
from workflow_scripts import decoding_arguments

DISTRIBUTIONS = ("torch", "kaldi-native-fbank", "soundfile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    decoding_arguments.add_shard(parser)
    args = parser.parse_args()

    description = reading.read_json(args.description)
    symbols = tokens.read(args.tokens, description["sizes"]["vocab_size"])
    # Not what sherpa-ncnn leaves out: what that loses is to be seen.
    how = decoding_arguments.decoding(args, symbols, vocabulary.never_emitted(symbols))
    model_digest = decoding.digest([args.checkpoint, args.tokens])
    family, settings = description["family"], json.dumps(description["settings"])
    code = [args.code, *versions(DISTRIBUTIONS)]
    cache = decoding.Cache(args.cache, family, settings, model_digest, how, *code)
    mine = decoding.share(recordings.read_checked(args.manifest), args.shard, args.shards)
    new = [u for u in mine if cache.get(u) is None]
    if new:
        fill(cache, new, description, symbols, args, how)
    heard.write(args.output, decoding.decoded(cache, mine))
    print(
        f"{args.output}: decoded {len(new)} utterances; {len(mine) - len(new)} were decoded before"
    )


def fill(
    cache: decoding.Cache,
    utterances: list[recordings.Utterance],
    description: dict[str, Any],
    symbols: list[str],
    args: argparse.Namespace,
    how: search.Decoding,
) -> None:
    # Not above: where everything was decoded before, nothing needs to wait for PyTorch.
    import torch

    from transducer2ncnn.engines.pytorch import TorchTransducer
    from transducer2ncnn.families import model

    # How many threads share a sum changes how it rounds; shards use more cores.
    torch.set_num_threads(1)
    # Which of its implementations PyTorch takes is nothing that a user could act on.
    warnings.filterwarnings("ignore", message="LSTM with projections")
    network = model.load_described(args.checkpoint, description)
    transducer = TorchTransducer(network)

    def recognise(samples: np.ndarray) -> heard.Heard:
        return decoding.heard(search.decode(transducer, samples, how), symbols)

    decoding.fill(cache, utterances, recognise, args.output)


if __name__ == "__main__":
    errors.run(main)
