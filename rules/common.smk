# The validated configuration, and what several rules need.

import json
import re
import shlex
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from snakemake.exceptions import WorkflowError

from transducer2ncnn import config as configuration
from transducer2ncnn import manifests
from transducer2ncnn.environment import set_up_scripts
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


def gate(wildcards):
    """The evaluation that a model must pass to be delivered, if there is one."""
    precision = wildcards.get("precision", "int8")  # int8 has rules of its own
    gated = model_of(wildcards).evaluation and precision in CONFIG.evaluation.max_rise
    return f"results/{wildcards.model}/evaluation/{precision}.json" if gated else []


def max_rise(wildcards, evaluation):
    """What the script that delivers is told of that gate."""
    if not evaluation:
        return ""
    limit = CONFIG.evaluation.max_rise[wildcards.get("precision", "int8")]
    return f"--gate {shlex.quote(evaluation)} {limit}"


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
    if model.evaluation:
        figures = [f"{p}.json" for p in CONFIG.precisions_of(name)]
        figures += ["comparison.json", "speed.json", "table.tsv"]
        wanted += [f"results/{{model}}/evaluation/{f}" for f in ["manifest.jsonl", *figures]]
    return list(dict.fromkeys(expand(wanted, model=name)))


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


def networks_of(model, precision):
    """The plain ncnn files of a precision, encoder, decoder and joiner."""
    files = [f for part, stored in parts_of(precision).items() for f in plain(part, stored)]
    return expand(files, model=model)


def evaluated(part):
    """The plain ncnn files of a part, in the precision that is evaluated."""
    return lambda wildcards: expand(
        plain(part, parts_of(wildcards.precision)[part]), model=wildcards.model
    )


def heard(system):
    """What all shards of a system hear."""
    return expand(
        "results/{{model}}/evaluation/decoded/{system}/{shard}-of-{shards}.jsonl",
        system=system,
        shard=range(1, CONFIG.evaluation.shards + 1),
        shards=CONFIG.evaluation.shards,
    )


def of_every_precision(path):
    """A path with {precision} in it, for each precision of a model."""
    return lambda wildcards: expand(
        path, precision=CONFIG.precisions_of(wildcards.model), model=wildcards.model
    )


def all_cores(wildcards):
    try:
        return workflow.cores
    except WorkflowError:  # a cluster's jobs may be limited by number instead
        return CONFIG.transcription.threads
