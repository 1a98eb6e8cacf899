"""Time and memory of calibration and quantization at full size, on a random checkpoint.

    python -m benchmarks.int8 [--seconds 20 --recordings 4]

Prints what the calibration took (benchmarks.measuring), as many processes at once as there are
shards, and so the search for scales and the quantizer. benchmarks.full_size exports all the way.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

from benchmarks import measuring, random_models
from benchmarks.full_size import RESULTS, write_config
from benchmarks.measuring import measure
from transducer2ncnn.base import isolated
from transducer2ncnn.base.layout import PARTS, file_name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of audio, in all")
    parser.add_argument("--recordings", type=int, default=4)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        isolated.call(random_models.write_model, work)
        random_models.write_recordings(work / "wavs", args.recordings, args.seconds)
        precisions = ["fp32", "int8-table"]
        write_config(work, "lstm", precisions, calibration={"shards": args.shards})
        snakemake = partial(measuring.snakemake, work, cores=args.cores)
        networks = [f"{RESULTS}/ncnn/fp32/{file_name(part, 'fp32', 'bin')}" for part in PARTS]
        snakemake(f"{RESULTS}/model.json", *networks)
        shards = [f"{RESULTS}/calibration/{i + 1}-of-{args.shards}.npz" for i in range(args.shards)]
        took = measure(lambda: snakemake(*shards))
        print(
            f"calibration on {args.seconds:.0f} s of audio, all included: {took}; "
            f"{took.seconds / args.seconds:.3f} s per second of audio"
        )
        for log in sorted(work.glob("logs/full/observe-*.log")):
            print(f"  {log.read_text().splitlines()[-1]}")
        made = f"{RESULTS}/ncnn/int8-table"
        tables = [f"{made}/{part}-scale-table.txt" for part in ("encoder", "joiner")]
        print(f"search for scales: {measure(lambda: snakemake(*tables))}")
        bins = [f"{made}/{part}_jit_trace-pnnx.ncnn.int8.bin" for part in ("encoder", "joiner")]
        print(f"quantizer: {measure(lambda: snakemake(*bins))}")
        for file in bins:
            print(f"{file}: {(work / file).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
