"""What a run made and where, and what it did not and why."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transducer2ncnn.base import reading
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.evaluation import comparison, units
from transducer2ncnn.evaluation.units import NAMES
from transducer2ncnn.formats import tokens, vocabulary

#: Models whose files and figures are listed one by one; of more, there is a line each.
DETAILED = 4
#: Characters of an error that are shown; all of it is in the log.
ERROR_LENGTH = 600
#: Lines of it, its list's first ones included.
ERROR_LINES = 6


@dataclass(frozen=True)
class Job:
    """A job of a run, done or not."""

    model: str
    message: str
    log: Path
    #: The folder for sherpa-ncnn that it puts together, if that is what it does.
    delivers: str | None
    #: Whether what it makes is there.
    done: bool
    #: The files that it makes, which may be there from a run before.
    makes: frozenset[str] = frozenset()
    #: The submission that failed with it, if one did: jobs of a group are submitted together, and
    #: fail together.
    failed_in: object = None


def lines(results: Path, jobs: Iterable[Job]) -> Iterator[str]:
    """What became of the models of a run: what was delivered, and what failed with which error.

    Args:
        results: the folder that the run's results are in.
        jobs: all of the run, what was done before included.
    """
    models: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.model):
        models.setdefault(job.model, []).append(job)
    finished = [model for model, of in models.items() if all(job.done for job in of)]
    few = len(models) <= DETAILED
    for model, of in models.items():
        # What this run did not ask for may be older than what it is about.
        made = {Path(file) for job in of if job.done for file in job.makes}
        say = _at_length if few else _briefly
        try:
            yield from say(results / model, _delivered(of), made, model in finished)
        except UserError as e:  # a damaged file, which hides nothing of the others
            yield f"error: {e}"
    if few and len(finished) == len(models):
        return
    yield ""
    yield f"{len(finished)} of {len(models)} models are finished"
    for model, of in models.items():
        if model not in finished:
            yield from _unfinished(model, of)


def _at_length(
    folder: Path, delivered: list[str], made: set[Path], finished: bool
) -> Iterator[str]:
    """Of a model, what it was delivered as and all figures.

    Args:
        folder: its results.
        delivered: folders for sherpa-ncnn.
        made: files that are there and up to date.
        finished: whether all that was asked for is.
    """
    for ready in delivered:
        yield ""
        yield f"{ready}/    ready for sherpa-ncnn"
        # Else it is in a storage.
        if Path(ready).is_dir():
            yield from _details(Path(ready), made)
    yield from _on_devices(folder / "verification", made)
    yield from _vocabulary(folder, made)
    if finished:
        yield from _evaluation(folder / "evaluation", made)
        yield from _report(folder / "report.html", made)
        yield from _release(folder / "release", made)


def _briefly(folder: Path, delivered: list[str], made: set[Path], finished: bool) -> Iterator[str]:
    """The same in a line, and what to be careful about."""
    if finished:
        yield f"{folder.name}: {', '.join(delivered) or 'nothing to deliver'}"
        yield from _on_devices(folder / "verification", made)
        yield from _vocabulary(folder, made)
        if (table := folder / "evaluation" / "table.tsv") in made:
            yield from _far(table.parent, comparison.read(table))


def _report(path: Path, made: set[Path]) -> Iterator[str]:
    if path in made:
        yield ""
        yield f"{path}    all of it as a page, for a browser"


def _release(folder: Path, made: set[Path]) -> Iterator[str]:
    """Where the archive is, and the commit that it was published in."""
    published = folder / "published.json"
    archives = sorted(file for file in made if file.parent == folder and file.suffix == ".bz2")
    if archives or published in made:
        yield ""
    for archive in archives:
        yield f"{archive}    the archive"
    if published in made:
        yield f"{reading.read_json(published)['address']}    where it is published"


def _delivered(jobs: list[Job]) -> list[str]:
    return sorted(job.delivers for job in jobs if job.delivers and job.done)


def _unfinished(model: str, jobs: list[Job]) -> Iterator[str]:
    yield f"{model} is not; delivered: {', '.join(_delivered(jobs)) or 'nothing'}"
    failed = _to_blame(job for job in jobs if job.failed_in is not None)
    for job in failed:
        # A message says whose it is, as the line above does.
        yield f"  failed: {job.message.removeprefix(f'{model}: ')}"
        yield from (f"    {line}" for line in _first_error(job.log))
        yield from (f"    {line}" for line in _warnings(_printed(job.log) or []))
        yield f"    {job.log}"
    if not failed:
        yield "  the run was stopped before"


def _to_blame(failed: Iterable[Job]) -> list[Job]:
    """Of jobs that failed together, those whose logs end in an error; all, if none does."""
    together: dict[object, list[Job]] = {}
    for job in failed:
        together.setdefault(job.failed_in, []).append(job)
    return [
        job
        for jobs in together.values()
        for job in [job for job in jobs if _error(_printed(job.log) or [])] or jobs
    ]


def _first_error(log: Path) -> list[str]:
    """The error that a script ended with and how its list begins, if it has one; or else the last
    that it printed."""
    printed = _printed(log)
    if printed is None:
        return ["it left no log: it did not start, or its log is not on this machine"]
    if not printed:
        return ["its log is empty: it was killed, or it ran out of memory or time"]
    said = _error(printed) or [printed[-1]]
    shown_ = [line if len(line) <= ERROR_LENGTH else _shortened(line) for line in said]
    if len(shown_) > ERROR_LINES:
        shown_[ERROR_LINES:] = [f"  … {len(said) - ERROR_LINES} more lines in the log"]
    return shown_


def _shortened(error: str) -> str:
    """Its beginning says what is wrong, and its end what to do."""
    half = ERROR_LENGTH // 2
    return f"{error[:half]} … {error[-half:]}"


def _printed(log: Path) -> list[str] | None:
    try:
        return [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return None


def _error(printed: list[str]) -> list[str]:
    """What a script said was wrong, by transducer2ncnn.base.errors, with the list below it."""
    for i, line in enumerate(printed):
        if line.startswith("error: "):
            listed = itertools.takewhile(lambda x: x.startswith("  "), printed[i + 1 :])
            return [line.removeprefix("error: "), *listed]
    return []


def _warnings(printed: list[str]) -> list[str]:
    """What a script warned of, which may be why it failed."""
    return [line for line in printed if line.startswith("warning: ")]


def _details(folder: Path, made: set[Path]) -> Iterator[str]:
    """A delivered folder's files with sizes and verification, and its transcripts."""
    model = folder.parent.parent
    verification = reading.read_json(model / "verification" / f"{folder.name}.json")
    yield f"  {'file':<40} {'size':>12}   verification"
    for file in sorted(folder.iterdir()):
        figure = _figure(file.name, verification)
        yield f"  {file.name:<40} {_size(file):>12}   {figure}".rstrip()
    yield from _text(verification)
    yield from _transcripts(model / "transcripts" / f"{folder.name}.tsv", made)


def _size(file: Path) -> str:
    size = file.stat().st_size
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def _figure(name: str, verification: dict[str, Any]) -> str:
    """How far a part's weights are from PyTorch, or int8 from fp32."""
    for part, found in verification["parts"].items():
        if name.startswith(part) and name.endswith(".bin"):
            if "max_error" in found:
                return f"{found['max_error']:.1e} from PyTorch, {found['allowed']:.2g} allowed"
            return _agreement(found["agreement"])
    return ""


def _agreement(share: float | None) -> str:
    """Of the frames that emit a token, how many have fp32's best one with one part quantized."""
    if share is None:
        return "no frame emits a token: nothing is proven"
    return f"finds fp32's best token in {share:.1%} of the frames that emit one"


def _text(verification: dict[str, Any]) -> Iterator[str]:
    """How far a quantized precision's text is from fp32's, and what is to be known of that."""
    if "fp32_tokens" not in verification:
        return
    tokens, seconds = verification["fp32_tokens"], verification["seconds"]
    if verification["proves_nothing"]:
        yield f"  WARNING: not proven: fp32 finds only {tokens} tokens in {seconds:.1f} s of audio"
    else:
        share = verification["all"]["agreement"]
        edits = verification["token_edits"]
        yield f"  all parts together: {_agreement(share)}"
        yield f"  token edits from fp32's {tokens} tokens ({seconds:.0f} s of audio): {edits}"
    for warning in verification["warnings"]:
        yield f"  WARNING: {warning}"


def _transcripts(path: Path, made: set[Path]) -> Iterator[str]:
    if path not in made:
        return
    with open(path, encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
    known = [row for row in rows if row["reference"]]
    right = sum(_same(row["sherpa-ncnn"], row["reference"]) for row in known)
    differ = [row["wav"] for row in rows if row["agree"] == "no"]
    yield f"  {path}: {len(rows)} recordings"
    if known:
        yield f"    sherpa-ncnn transcribed {right} of {len(known)} as their transcripts say"
    if differ:
        yield f"    WARNING: sherpa-ncnn and plain ncnn differ on {', '.join(differ)}"
    else:
        yield "    sherpa-ncnn and plain ncnn agree on every one"


def _on_devices(folder: Path, made: set[Path]) -> Iterator[str]:
    """Warnings of values that fp16 can hardly hold, and of what emulated processors recognise."""
    for path in sorted(x for x in made if x.parent == folder):
        if path.name == "headroom.json" or path.name.startswith("target-"):
            for warning in reading.read_json(path)["warnings"]:
                yield f"  WARNING: {warning}"


def _same(text: str, reference: str) -> bool:
    """Whether a text is what was said, as an evaluation compares them."""
    unit = units.find([reference])
    mine, said = (units.split(units.USUAL.apply(x), unit) for x in (text, reference))
    return mine == said


def _vocabulary(folder: Path, made: set[Path]) -> Iterator[str]:
    """Warnings of tokens that sherpa-ncnn does not print as text."""
    path = folder / "tokens.txt"
    if path in made and path.is_file():
        size = reading.read_json(folder / "model.json")["sizes"]["vocab_size"]
        for warning in vocabulary.warnings(tokens.read(path, size)):
            yield f"  WARNING: {warning}"


def _evaluation(folder: Path, made: set[Path]) -> Iterator[str]:
    path, pairs = folder / "table.tsv", folder / "comparison.json"
    if path not in made:
        return
    table = comparison.read(path)
    score = reading.read_json(folder / f"{table[-1]['system']}.json")
    yield ""
    yield (
        f"{path}: {score['utterances']} recordings, {score['words']} "
        f"{NAMES[score['unit']].plural}, "
        f"{score['seconds']:.0f} s, {score['decoding'].replace('_', ' ')}"
    )
    shown = [column for column in table[0] if column not in comparison.HIDDEN]
    rows = [shown, *([row[column] for column in shown] for row in table)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for system, *figures in rows:
        cells = [x.rjust(width) for x, width in zip(figures, widths[1:], strict=True)]
        yield "  ".join(["", system.ljust(widths[0]), *cells]).rstrip()
    if pairs in made and (verdict := comparison.verdict(reading.read_json(pairs))):
        yield f"  {verdict}"
    yield from _far(folder, table)


def _far(folder: Path, table: list[dict[str, str]]) -> Iterator[str]:
    """Warnings of figures that are far from PyTorch's, or useless."""
    scores = [reading.read_json(folder / f"{row['system']}.json") for row in table[1:]]
    for warning in dict.fromkeys(warning for score in scores for warning in score["warnings"]):
        yield f"  WARNING: {warning}"
