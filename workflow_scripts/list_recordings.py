"""List the calibration recordings, a path a line, and beside it what changes when one of them does.

A script of Snakemake's own kind, which gets its input in a file: a command's length is limited.
"""

import os
from typing import Any

from transducer2ncnn.base import files

#: The job, which Snakemake defines in front of this.
snakemake: Any
recordings: list[str] = snakemake.input  # noqa: F821
output = snakemake.output  # noqa: F821

files.write_text(output.listed, "".join(f"{wav}\n" for wav in recordings))
found = map(os.stat, recordings)
files.write_text(output.status, "".join(f"{x.st_size} {x.st_mtime_ns}\n" for x in found))
