"""TorchScript to ncnn, by pnnx."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import replacing, scratch
from transducer2ncnn.base.reading import REMAKE
from transducer2ncnn.export import norms
from transducer2ncnn.export.broadcasting import check_vectors
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import sherpa, weights

#: Lines of pnnx's log that an error ends with.
LOG_TAIL = 5


def convert(traced: str | Path, param: str | Path, bin_: str | Path) -> str:
    """Convert one traced network; weights stored as fp32, norms in a form for fp16 (``norms``).

    pnnx's exit status alone says little: it has been seen to end well and leave files out, or cut
    them off where the disk is full, and to crash after writing half of them. Both files must be
    there and whole, made in a folder of their own, before either takes its place.

    Returns:
        pnnx's log.

    Raises:
        UserError: pnnx failed or left a file out, and the message shows the end of its log, all of
            which goes to standard error; or what it wrote is cut off; or it made layers that
            sherpa-ncnn cannot create; or the graph makes ncnn guess an axis (``broadcasting``), or
            adds up squares (``norms``).
    """
    with scratch(Path(param).resolve().parent) as folder:
        made = {kind: folder / f"model.ncnn.{kind}" for kind in ("param", "bin")}
        # Formats that nothing reads here. pnnx goes on where it cannot open a file, and leaves out
        # its own bin with its own param: the weights once more, which takes a third of its time.
        nowhere = folder / "unwanted"
        unwanted = [
            f"{option}={nowhere / option}"
            for option in ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")
        ]
        done = subprocess.run(
            [
                _executable(),
                Path(traced).resolve(),
                "fp16=0",
                f"ncnnparam={made['param']}",
                f"ncnnbin={made['bin']}",
                *unwanted,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=folder,
        )
        wrong = _what_is_wrong(traced, made["param"], made["bin"])
        if done.returncode != 0 or wrong:
            free = shutil.disk_usage(folder).free
            print(done.stdout, file=sys.stderr)
            raise UserError(_failure(traced, done.returncode, wrong, free, done.stdout))
        graph, name = param_file.read(made["param"]), f"pnnx made of {traced} what is not kept"
        check_vectors(graph, name)
        param_file.write(made["param"], norms.rewrite(graph, name))
        # One after the other, the param last: a pair is complete once its param is there.
        for kind, target in (("bin", bin_), ("param", param)):
            with replacing(target) as partial:
                made[kind].rename(partial)
    return done.stdout


def _executable() -> Path:
    # Found without importing it: that would load torch, which the executable does not need.
    spec = importlib.util.find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise UserError(
            "pnnx is not installed in this environment. Expected what requirements.lock lists; "
            "`make export` sets up an environment that has it."
        )
    return Path(spec.origin).with_name("pnnx")


def _what_is_wrong(traced: str | Path, param: Path, bin_: Path) -> str:
    missing = [f.name for f in (param, bin_) if not f.is_file() or f.stat().st_size == 0]
    if missing:
        return f"left out {' and '.join(missing)}"
    not_whole = "wrote files that are not whole"
    try:
        graph = param_file.read(param)
    except UserError as e:
        return f"{not_whole} ({_what(e)})"
    # Before the bin, which cannot be read where a layer's weights are not known.
    sherpa.check_layers(graph, f"{traced}, converted")
    try:
        weights.read(graph, bin_)
    except UserError as e:
        return f"{not_whole} ({_what(e)})"
    return ""


def _what(error: UserError) -> str:
    """Without what to do about a file that the workflow made: this one is gone already."""
    return str(error).removesuffix(f" {REMAKE}")


def _failure(traced: str | Path, status: int, wrong: str, free: int, log: str) -> str:
    if status < 0:
        what = f"crashed ({signal.Signals(-status).name})"
    elif status > 0:
        what = f"failed with exit status {status}"
    else:
        what = "ended without an error"
    if wrong:
        what += f" and {wrong}"
    what += f" on {traced}, with {free / 1e6:.0f} MB left on the disk"
    tail = "\n".join("  " + line for line in log.splitlines()[-LOG_TAIL:])
    return (
        f"pnnx {what}. If that file was changed since it was traced, delete it, and run snakemake "
        f"again. The end of pnnx's log:\n{tail}"
    )
