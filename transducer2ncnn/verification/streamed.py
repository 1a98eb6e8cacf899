"""A model's three networks on the reference's inputs, computed as sherpa-ncnn has ncnn compute.

Run by Python on this machine's processor, and on an emulated one, where there is nothing but numpy
and ncnn beside the project's own code.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from transducer2ncnn.base.layout import PARTS, Files
from transducer2ncnn.engines.runtime import Network
from transducer2ncnn.families.contract import Architecture
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import blobs as names_of

#: Pairs of inputs of the decoder and the joiner that are run, at most.
SAMPLES = 10


def outputs(
    reference: str | Path, architecture: Architecture[Any, Any], files: Files, segments: int
) -> dict[str, np.ndarray]:
    """Outputs by the reference's keys: the encoder's streamed, and the others' samples.

    Args:
        reference: reference.npz.
        files: param and bin of each part, as plain ncnn has them.
        segments: of the streaming run, at most so many.
    """
    networks = {part: Network(*files[part], sherpa_options=True) for part in PARTS}
    found: dict[str, np.ndarray] = {}
    with np.load(reference) as arrays:
        features = arrays["encoder/streaming/features"]
        states = architecture.initial_states()
        names = names_of.outputs(len(architecture.batch_axes()))
        fitting = (len(features) - architecture.segment) // architecture.hop + 1
        for i in range(min(segments, fitting)):
            segment = features[i * architecture.hop :][: architecture.segment]
            inputs = architecture.encoder_inputs(segment, states)
            blobs = names_of.inputs(inputs)
            results = networks["encoder"].run(blobs, names)
            states = architecture.carried(results)
            found |= {
                f"encoder/streaming/{i}/{name}": array
                for name, array in zip(names, results, strict=True)
            }
            print(f"segment {i + 1} of {min(segments, fitting)}", flush=True)
        for part in ("decoder", "joiner"):
            for i in range(SAMPLES):
                case = f"{part}/sample {i}"
                blobs = {
                    key.rpartition("/")[2]: arrays[key]
                    for key in arrays
                    if key.startswith(f"{case}/in")
                }
                (found[f"{case}/out0"],) = networks[part].run(blobs, [names_of.OUTPUT])
    return found


def processor() -> dict[str, bool]:
    """What ncnn finds that an ARM processor can compute with."""
    return {
        name: bool(getattr(ncnn, f"cpu_support_arm_{name}", int)())
        for name in ("neon", "vfpv4", "asimdhp", "asimddp", "asimdfhm", "bf16", "i8mm", "sve")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("request", type=Path, help="a JSON file with the arguments of `outputs`")
    parser.add_argument("output", type=Path, help="where the arrays go, as .npz")
    args = parser.parse_args()
    request = json.loads(args.request.read_text())
    architecture = described(request["description"])
    for name, by_part in request["precisions"].items():
        print(f"plain ncnn runs {name}", flush=True)
        files = {part: (Path(pair[0]), Path(pair[1])) for part, pair in by_part.items()}
        found = outputs(request["reference"], architecture, files, request["segments"])
        with open(args.output / f"{name}.npz", "wb") as f:
            np.savez(f, allow_pickle=False, **found)
    made = {"features": processor(), "ncnn": ncnn.__version__}
    (args.output / "processor.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main()
