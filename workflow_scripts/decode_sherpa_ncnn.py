"""Decode one shard of an evaluation with sherpa-ncnn, on a model that is not delivered yet."""

import argparse
import json
import tempfile
from pathlib import Path

from transducer2ncnn.base import errors, reading
from transducer2ncnn.evaluation import decoding, heard
from transducer2ncnn.export import assembly
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import tokens
from transducer2ncnn.speech import recordings
from transducer2ncnn.workflow.staleness import versions
from workflow_scripts import decoding_arguments
from workflow_scripts.arguments import add_ncnn_files, ncnn_files

DISTRIBUTIONS = ("sherpa-ncnn", "soundfile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_ncnn_files(parser)
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    decoding_arguments.add_shard(parser)
    args = parser.parse_args()

    files, description = ncnn_files(args), reading.read_json(args.description)
    symbols = tokens.read(args.tokens, description["sizes"]["vocab_size"])
    how = decoding_arguments.decoding(args, symbols)
    paths = [path for pair in files.values() for path in pair]
    model_digest = decoding.digest([*paths, args.tokens])
    code = [args.code, *versions(DISTRIBUTIONS)]
    settings = json.dumps(description["settings"])
    cache = decoding.Cache(args.cache, settings, model_digest, how, *code)
    mine = decoding.share(recordings.read_checked(args.manifest), args.shard, args.shards)
    new = [u for u in mine if cache.get(u) is None]
    if new:
        architecture = described(description)
        with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
            assembly.assemble(files, description, args.tokens, folder, copy=assembly.link)
            decoding.fill_by_sherpa_ncnn(
                cache, new, folder, symbols, architecture.tail_seconds, how, args.output
            )
    heard.write(args.output, decoding.decoded(cache, mine))
    print(
        f"{args.output}: decoded {len(new)} utterances; {len(mine) - len(new)} were decoded before"
    )


if __name__ == "__main__":
    errors.run(main)
