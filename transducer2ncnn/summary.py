"""What a run made and where, as a table for a person."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transducer2ncnn import comparison


def lines(results: Path) -> Iterator[str]:
    """All models: delivered files with sizes and verification, transcripts, evaluation, report."""
    for model in sorted(results.glob("*/")):
        for folder in sorted(model.glob("sherpa-ncnn/*/")):
            verification = json.loads((model / "verification" / f"{folder.name}.json").read_text())
            yield ""
            yield f"{folder}/    ready for sherpa-ncnn"
            yield f"  {'file':<40} {'size':>12}   verification"
            for file in sorted(folder.iterdir()):
                figure = _figure(file.name, verification)
                yield f"  {file.name:<40} {_size(file):>12}   {figure}".rstrip()
            yield from _transcripts(model / "transcripts" / f"{folder.name}.tsv")
        yield from _evaluation(model / "evaluation")
        report = model / "report.html"
        if report.is_file():
            yield ""
            yield f"{report}    all of it as a page, for a browser"
    yield ""


def _size(file: Path) -> str:
    size = file.stat().st_size
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def _figure(name: str, verification: dict[str, Any]) -> str:
    """How far a part's weights are from PyTorch, or int8 from fp32."""
    for part, found in verification["parts"].items():
        if name.startswith(part) and name.endswith(".bin"):
            if "max_error" in found:
                tolerance = verification["tolerance"]
                return f"{found['max_error']:.1e} from PyTorch, {tolerance:g} allowed"
            return f"finds fp32's best token in {found['same_best_token']:.1%} of frames"
    return ""


def _transcripts(path: Path) -> Iterator[str]:
    if not path.is_file():
        return
    with open(path, encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
    known = [row for row in rows if row["reference"]]
    right = sum(row["sherpa-ncnn"] == row["reference"] for row in known)
    differ = [row["wav"] for row in rows if row["agree"] == "no"]
    yield f"  {path}: {len(rows)} recordings"
    if known:
        yield f"    sherpa-ncnn heard {right} of {len(known)} exactly as their transcripts say"
    if differ:
        yield f"    WARNING: sherpa-ncnn and plain ncnn differ on {', '.join(differ)}"
    else:
        yield "    sherpa-ncnn and plain ncnn agree on every one"


def _evaluation(folder: Path) -> Iterator[str]:
    path = folder / "table.tsv"
    if not path.is_file():
        return
    table = comparison.read(path)
    score = json.loads((folder / f"{table[-1]['system']}.json").read_text())
    yield ""
    yield (
        f"{path}: {score['utterances']} recordings, {score['words']} words, "
        f"{score['seconds']:.0f} s, {score['decoding'].replace('_', ' ')}"
    )
    rows = [comparison.SHOWN, *([row[c] for c in comparison.SHOWN] for row in table)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for system, *figures in rows:
        cells = [x.rjust(width) for x, width in zip(figures, widths[1:], strict=True)]
        yield "  ".join(["", system.ljust(widths[0]), *cells]).rstrip()
    yield f"  {comparison.verdict(json.loads((folder / 'comparison.json').read_text()))}"
