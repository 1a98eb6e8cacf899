"""What each format costs in fidelity, one group of layers at a time.

Everything else is fp32. The network is streamed over recordings with its own states, and the joiner
meets the tokens that fp32 finds; what is measured is the mean square by which the logits are off.
It is taken behind all norms, where a quiet frame counts as much as a loud one; it is in the same
unit for layers of all three networks; and it takes in every frame and token, so that a minute of
audio is enough to rank layers by. The divergence of the posteriors, which depends on the few frames
that are in doubt, is not.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transducer2ncnn.base import files as written
from transducer2ncnn.base import reading
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import Files
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import weights as weights_file
from transducer2ncnn.quantization.agreement import Reference
from transducer2ncnn.quantization.apply import apply
from transducer2ncnn.quantization.groups import Group
from transducer2ncnn.quantization.layer_formats import Fp32


@dataclass(frozen=True)
class Sensitivity:
    """What a format of a group of layers does by itself.

    Attributes:
        part, layers, format: which.
        error: the mean square of the logits' difference from fp32's, over all frames and tokens.
        divergence: of the posteriors, in nats, the mean in frames that emit a token; None where
            no frame does.
        encoder_snr_db: the signal-to-noise ratio of the encoder's output; None where that stays.
    """

    part: str
    layers: list[str]
    format: str
    error: float
    divergence: float | None
    encoder_snr_db: float | None


#: A group, and a format of it.
Pair = tuple[Group, str]


def share(groups: Sequence[Group], shard: int, shards: int) -> list[Pair]:
    """One shard's part of what is measured; each pair takes about as long.

    Args:
        shard: from 1 on.
    """
    pairs = [(group, format_) for group in groups for format_ in group.quantizing]
    return pairs[shard - 1 :: shards]


def measure(
    fp32: Files,
    description: dict[str, Any],
    recordings: Mapping[str, np.ndarray],
    pairs: Sequence[Pair],
    cache: Path,
) -> list[Sensitivity]:
    """Measure each pair that is not in the cache yet; a line says how far it is.

    Args:
        description: what ``model.inspect`` found.
        recordings: (n,) float32 samples at 16 kHz each, by name; a minute at most is taken.
        cache: a folder for this model, these recordings and this code, where each result is put
            as soon as it is there, so that a job that was ended goes on where it was.

    Raises:
        UserError: ncnn cannot run the files.
    """
    reference: Reference | None = None
    found = []
    for i, (group, format_) in enumerate(pairs, start=1):
        file = cache / f"{group.part}-{group.layers[0]}-{len(group.layers)}-{format_}.json"
        try:
            found.append(reading.parse_row(file.read_bytes(), Sensitivity))
            continue
        except (FileNotFoundError, ValueError):  # a crash of the machine can leave a file empty
            pass
        reference = reference or Reference(fp32, description, recordings)
        found.append(_measured(fp32, reference, group, format_))
        written.write_json(file, asdict(found[-1]))
        print(f"{i} of {len(pairs)}: {group.name} in {format_}", file=sys.stderr, flush=True)
    return found


def _measured(fp32: Files, reference: Reference, group: Group, format_: str) -> Sensitivity:
    with tempfile.TemporaryDirectory(prefix="transducer2ncnn-") as folder:
        formats = dict.fromkeys(group.layers, format_)
        pair = store(fp32[group.part], formats, Fp32.NAME, Path(folder))
        figures = reference.compare(fp32 | {group.part: pair}, format_).figures
    return Sensitivity(
        group.part,
        list(group.layers),
        format_,
        figures["all"]["mean_square"],
        figures["all"]["divergence"],
        figures["encoder_snr_db"],
    )


def store(
    fp32: tuple[Path, Path], formats: Mapping[str, str], rest: str, folder: Path
) -> tuple[Path, Path]:
    """A network with some layers in formats of their own and the others as the rest.

    Returns:
        Its param and bin in ``folder``, which are called as fp32's.
    """
    graph = param_file.read(fp32[0])
    stored, blocks = apply(graph, weights_file.read(graph, fp32[1]), formats, rest)
    param, bin_ = (folder / path.name for path in fp32)
    param_file.write(param, stored)
    weights_file.write(bin_, blocks)
    return param, bin_


def write(path: str | Path, found: Sequence[Sensitivity]) -> None:
    """What a shard measured, a line of JSON each."""
    written.write_text(path, "".join(json.dumps(asdict(row)) + "\n" for row in found))


def errors(paths: Sequence[str | Path], groups: Sequence[Group]) -> list[dict[str, float]]:
    """What all shards measured: the error of each group's formats, in the groups' order.

    Raises:
        UserError: a file is missing or damaged, or the files are of other groups.
    """
    rows = [row for path in paths for row in reading.read_rows(path, Sensitivity)]
    by_pair = {(row.part, tuple(row.layers), row.format): row.error for row in rows}
    found = []
    for group in groups:
        keys = {name: (group.part, group.layers, name) for name in group.quantizing}
        if missing := [name for name, key in keys.items() if key not in by_pair]:
            raise UserError(
                f"{paths[0]} and its other shards: {group.name} in {missing[0]} was not measured. "
                f"{reading.REMAKE}"
            )
        found.append({name: by_pair[key] for name, key in keys.items()})
    return found
