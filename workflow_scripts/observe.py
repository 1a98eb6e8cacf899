"""Observe what goes into the layers to be quantized, on one shard of the calibration recordings."""

import argparse
import sys
import time
from pathlib import Path

from transducer2ncnn.base import errors, reading
from transducer2ncnn.families import model, registry
from transducer2ncnn.quantization import observing, sharing, statistics
from transducer2ncnn.speech import audio

#: Seconds between two lines of progress.
PROGRESS_INTERVAL = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--recordings", required=True, help="as measured")
    parser.add_argument("--shard", required=True, type=int, help="from 1 on")
    parser.add_argument("--shards", required=True, type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    measured = sharing.read_recordings(args.recordings)
    durations = {wav: x.seconds for wav, x in measured.items()}
    description = reading.read_json(args.description)
    any_length = registry.described(description).any_length
    mine = sharing.share(durations, args.shard, args.shards, any_length)
    total = sum(durations[wav] for batch in mine for wav in batch)
    network = model.load_described(args.checkpoint, description)

    # Read when they are needed: a batch of long recordings would fill the memory.
    batches = (((wav, audio.blocks(wav)) for wav in batch) for batch in mine)
    start = said = time.monotonic()

    def progress(seconds: float) -> None:
        nonlocal said
        if time.monotonic() - said > PROGRESS_INTERVAL:
            said = time.monotonic()
            print(f"observed {seconds:.0f} of {total:.0f} s of audio", file=sys.stderr, flush=True)

    observed = observing.observe(network, batches, progress, args.threads)
    statistics.save(args.output, observed)
    took = time.monotonic() - start
    print(f"shard {args.shard}: observed {total:.1f} s of audio in {took:.1f} s")


if __name__ == "__main__":
    errors.run(main)
