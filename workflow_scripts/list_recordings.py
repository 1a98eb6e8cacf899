"""List the calibration recordings, a path a line.

A script of Snakemake's own kind, which gets its input in a file: a command's length is limited.
"""

from typing import Any

from transducer2ncnn.base import files

#: The job, which Snakemake defines in front of this.
snakemake: Any
recordings: list[str] = snakemake.input  # noqa: F821

files.write_text(snakemake.output[0], "".join(f"{wav}\n" for wav in recordings))  # noqa: F821
