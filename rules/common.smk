# The validated configuration, and what several rules need.

import json
import re
import shlex
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from snakemake.exceptions import WorkflowError

from transducer2ncnn import config as configuration
from transducer2ncnn.environment import set_up_scripts
from transducer2ncnn.errors import UserError
from transducer2ncnn.layout import PARTS
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
    precision="|".join(CONFIG.precisions),
    part="|".join(PARTS),


def model_of(wildcards):
    return CONFIG.models[wildcards.model]


def code(script, *distributions):
    """A rule's parameter that changes with the code behind the rule."""
    return code_digest(f"workflow_scripts/{script}.py", *distributions)


def ncnn_files(folder):
    """The six files that the three parts of a model make in a folder."""
    return [
        f"{folder}/{part}_jit_trace-pnnx.ncnn.{kind}" for part in PARTS for kind in ("param", "bin")
    ]


def checkpoint_mb(wildcards):
    return Path(model_of(wildcards).checkpoint).stat().st_size / 1e6


def delivered(model, precision):
    folder = f"results/{model}/sherpa-ncnn/{precision}"
    return [*ncnn_files(folder), f"{folder}/tokens.txt"]


def artifacts_of(name):
    """Everything that the configuration asks for of one model."""
    results, model = f"results/{name}", CONFIG.models[name]
    yield f"{results}/model.json"
    yield from (f"{results}/torchscript/{part}_jit_trace-pnnx.pt" for part in PARTS)
    yield f"{results}/verification/reference.npz"
    for precision in CONFIG.precisions_of(name):
        yield from ncnn_files(f"{results}/ncnn/{precision}")
        yield f"{results}/verification/{precision}.json"
        yield from delivered(name, precision)
        if model.test_wavs:
            yield f"{results}/transcripts/{precision}.tsv"


def folders():
    """Folders that can be asked for, with the files that they stand for."""
    for name in CONFIG.models:
        yield f"results/{name}", list(artifacts_of(name))
        for precision in CONFIG.precisions_of(name):
            yield f"results/{name}/sherpa-ncnn/{precision}", delivered(name, precision)
