# The validated configuration, and what several rules need.

import hashlib
import json
import re
import shlex
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from snakemake.exceptions import WorkflowError

from transducer2ncnn import config as configuration
from transducer2ncnn.environment import set_up_scripts, set_variable
from transducer2ncnn.errors import UserError
from transducer2ncnn.layout import PARTS, file_name
from transducer2ncnn.staleness import code_digest

set_up_scripts(workflow.basedir)

try:
    CONFIG = configuration.parse(config)
    for stating in filter(lambda model: model.sizes, CONFIG.models.values()):
        # Seldom, so that other runs need not wait for torch.
        from transducer2ncnn.model import describe

        describe(stating.checkpoint, stating.family, stating.sizes)
except UserError as e:
    raise WorkflowError(str(e)) from None


wildcard_constraints:
    model="|".join(map(re.escape, CONFIG.models)),
    part="|".join(PARTS),
    precision="fp16|fp32",  # int8 files have rules and names of their own


def model_of(wildcards):
    return CONFIG.models[wildcards.model]


def code(script, *distributions):
    """A rule's parameter that changes with the code behind the rule."""
    return code_digest(f"workflow_scripts/{script}.py", *distributions)


def digest(*patterns):
    """The same for files of the project that are not Python's."""
    files = [f for pattern in patterns for f in sorted(Path(workflow.basedir).glob(pattern))]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


def pair(folder, part, precision):
    """The param and the bin of a part."""
    return [f"{folder}/{file_name(part, precision, kind)}" for kind in ("param", "bin")]


def plain(part, precision="{precision}"):
    """The plain ncnn files of a part; int8 may be made of parts of several precisions."""
    return pair(f"results/{{model}}/ncnn/{precision}", part, precision)


def sherpa(part, precision="{precision}", folder="{precision}"):
    """The same in a folder for sherpa-ncnn."""
    return pair(f"results/{{model}}/sherpa-ncnn/{folder}", part, precision)


def checkpoint_mb(wildcards):
    return Path(model_of(wildcards).checkpoint).stat().st_size / 1e6


def parts_of(precision):
    """What each part of a delivered precision is stored as."""
    if precision == "int8":
        return CONFIG.precisions.int8.parts()
    return dict.fromkeys(PARTS, precision)


def artifacts_of(name):
    """Everything that the configuration asks for of one model."""
    model = CONFIG.models[name]
    wanted = [f"results/{{model}}/torchscript/{part}_jit_trace-pnnx.pt" for part in PARTS]
    wanted += ["results/{model}/model.json", "results/{model}/verification/reference.npz"]
    for precision in CONFIG.precisions_of(name):
        for part, stored in parts_of(precision).items():
            wanted += plain(part, stored)
            if stored == "int8":
                wanted.append(f"results/{{model}}/ncnn/int8/{part}-scale-table.txt")
        wanted.append(f"results/{{model}}/verification/{precision}.json")
        wanted += delivered(precision)
        if model.test_wavs:
            wanted.append(f"results/{{model}}/transcripts/{precision}.tsv")
    for files in reported(name).values():
        wanted += [files] if isinstance(files, str) else files
    wanted.append("results/{model}/report.html")
    return list(dict.fromkeys(expand(wanted, model=name)))


def reported(name):
    """What a model's report is made of, by make_report's options; not all models have all."""
    precisions = CONFIG.precisions_of(name)
    files = {"verification": [f"results/{{model}}/verification/{p}.json" for p in precisions]}
    if "int8" in precisions and "int8" in parts_of("int8").values():
        files["quantization"] = "results/{model}/quantization.json"
    return files


def delivered(precision):
    """The files of a folder for sherpa-ncnn."""
    files = [
        f for part, stored in parts_of(precision).items() for f in sherpa(part, stored, precision)
    ]
    return [*files, f"results/{{model}}/sherpa-ncnn/{precision}/tokens.txt"]


def folders():
    """Folders that can be asked for, with the files that they stand for."""
    for name in CONFIG.models:
        yield f"results/{name}", artifacts_of(name)
        for precision in CONFIG.precisions_of(name):
            folder = f"results/{name}/sherpa-ncnn/{precision}"
            yield folder, expand(delivered(precision), model=name)
