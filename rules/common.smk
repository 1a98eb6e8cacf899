# The validated configuration, and what several rules need.

import functools
import hashlib
import json
import math
import re
import shlex
import sys
import urllib.parse
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from snakemake.exceptions import WorkflowError

from transducer2ncnn.workflow import config as configuration
from transducer2ncnn.speech import manifests
from transducer2ncnn.workflow import provenance, summary
from transducer2ncnn.workflow.environment import set_up_scripts
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import write_text
from transducer2ncnn.base.layout import PARTS, file_name
from transducer2ncnn.workflow.staleness import code_digest

set_up_scripts(workflow.basedir)

# Whether what does not hang on who makes it is shared with other runs. A rule that said so without
# --cache would be warned of in every run. All that a cached rule's wildcards change must be in its
# params: Snakemake's hash leaves out the wildcards, and the command as it is run.
CACHING = workflow.workflow_settings.cache is not None

try:
    CONFIG = configuration.parse(config)
    for stating in CONFIG.models.values():
        # What is elsewhere is checked when it has arrived.
        if stating.sizes and stating.source != "huggingface" and stating.here():
            # Seldom, so that other runs need not wait for torch.
            from transducer2ncnn.families.model import check_stated

            check_stated(stating.checkpoints()[0], stating.family, stating.sizes)
except UserError as e:
    raise WorkflowError(str(e)) from None


wildcard_constraints:
    model="|".join(map(re.escape, CONFIG.models)),
    part="|".join(PARTS),
    precision="fp16|fp32",  # int8 files have rules and names of their own


def model_of(wildcards):
    return CONFIG.models[wildcards.model]


# Once a family: the models may be many.
cached_digest = functools.cache(code_digest)


def code(script, *distributions):
    """A rule's parameter that changes with the code behind the rule, the model's family included."""
    path = f"workflow_scripts/{script}.py"
    return lambda wildcards: cached_digest(path, *distributions, family=model_of(wildcards).family)


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


def told(function):
    """Let an input function's UserError end the run with its message, and no traceback."""

    @functools.wraps(function)
    def wrapper(*args):
        try:
            return function(*args)
        except UserError as e:
            sys.exit(f"error: {e}")

    return wrapper


@functools.cache
@told
def snapshot(name):
    """What there is on the Hub of a model, found out once and only if something hangs on it."""
    from transducer2ncnn.source import hub

    model = CONFIG.models[name]
    revision = urllib.parse.quote(f"{model.repo_id}@{model.revision}", safe="")
    record = Path(".snakemake", "hub", f"{revision}.json")
    # A job goes by what the run that it is part of found: all see the same commit, and only the
    # run itself needs the network.
    found = None if workflow.is_main_process else hub.recorded(record)
    return found or hub.resolve(model.repo_id, model.revision, record)


@told
def on_hub(name, key):
    """The files on the Hub that a key of a model names."""
    named, where = getattr(CONFIG.models[name], key), f"models.{name}.{key}"
    if isinstance(named, str):
        return [snapshot(name).file(named, where)]
    return snapshot(name).matching(named or [], where)


@functools.cache
def placed(path):
    """A path of the configuration: in a storage if it is an address there, or else on this
    machine, wherever results go."""
    return storage(path) if configuration.is_address(path) else local(path)


def files_of(name, key):
    """The files that a key of a model names; of those on the Hub, what they are here."""
    model = CONFIG.models[name]
    if model.source == "huggingface" and key in model.REMOTE:
        return [f"results/{name}/hub/{file.path}" for file in on_hub(name, key)]
    named = getattr(model, key) or []
    return [placed(path) for path in ([named] if isinstance(named, str) else named)]


def checkpoints_of(name):
    """The checkpoints that a model is made of."""
    model = CONFIG.models[name]
    if model.source == "exp_dir":
        return [placed(path) for path in model.checkpoints()]
    return files_of(name, "checkpoint")


def averages(name):
    model = CONFIG.models[name]
    return model.source == "exp_dir" and model.choice().averages


def checkpoint(wildcards):
    """The one checkpoint that a model is read from."""
    if averages(wildcards.model):
        return f"results/{wildcards.model}/averaged.pt"
    return checkpoints_of(wildcards.model)[0]


def checkpoint_mb(wildcards):
    """Its size; of an average, that of what it is made of, which is larger."""
    name = wildcards.model
    if CONFIG.models[name].source == "huggingface":
        return on_hub(name, "checkpoint")[0].size / 1e6
    return max(size_of(path) for path in checkpoints_of(name)) / 1e6


@functools.cache
def size_of(path):
    """Bytes of a file that the configuration names."""
    stored = path.flags.get("storage_object")
    return stored.size() if stored else Path(path).stat().st_size


def test_wavs(wildcards):
    return files_of(wildcards.model, "test_wavs")


@told
def calibration_wavs(wildcards):
    found = files_of(wildcards.model, "calibration_wavs")
    if not found:
        raise UserError(
            f"models.{wildcards.model}.calibration_wavs: missing. Expected recordings, for int8."
        )
    return found


#: Recordings that int8 is compared with fp32 on, at most; all are in memory at once.
COMPARED = 100


def compared_wavs(wildcards):
    """The test wavs, or else those of the calibration; of many, some from the whole length."""
    wavs = test_wavs(wildcards) or calibration_wavs(wildcards)
    return wavs[:: math.ceil(len(wavs) / COMPARED)]


def transcripts(wildcards):
    return files_of(wildcards.model, "transcripts")


def evaluation_files(name):
    """The manifest that a model is evaluated on, with the recordings that it names."""
    manifest = CONFIG.models[name].evaluation
    return [placed(path) for path in manifests.files(manifest)] if manifest else []


def vocabulary(wildcards):
    """What the vocabulary is read from: tokens, bpe_model or both."""
    found = {key: files_of(wildcards.model, key) for key in ("tokens", "bpe_model")}
    return {key: files[0] for key, files in found.items() if files}


def only(predicate):
    """A constraint for a rule that makes sense for some models only."""
    names = [name for name in CONFIG.models if predicate(name)]
    return "|".join(map(re.escape, names)) or "(?!)"  # which matches nothing


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
        wanted.append("results/{model}/evaluation/table.tsv")
    for files in reported(name).values():
        wanted += [files] if isinstance(files, str) else files
    wanted.append("results/{model}/report.html")
    return list(dict.fromkeys(expand(wanted, model=name)))


def reported(name):
    """What a model's report is made of, by make_report's options; not all models have all."""
    precisions = CONFIG.precisions_of(name)
    files = {"manifest": "results/{model}/manifest.json"}
    files["verification"] = [f"results/{{model}}/verification/{p}.json" for p in precisions]
    if "int8" in precisions and "int8" in parts_of("int8").values():
        files["quantization"] = "results/{model}/quantization.json"
    if CONFIG.models[name].evaluation:
        folder = "results/{model}/evaluation"
        files["evaluation"] = [f"{folder}/{p}.json" for p in precisions]
        files["comparison"] = f"{folder}/comparison.json"
        files["speed"] = f"{folder}/speed.json"
        files["recordings"] = f"{folder}/manifest.jsonl"
    return files


def delivered(precision):
    """The files of a folder for sherpa-ncnn."""
    files = [
        f for part, stored in parts_of(precision).items() for f in sherpa(part, stored, precision)
    ]
    return [*files, f"results/{{model}}/sherpa-ncnn/{precision}/tokens.txt"]


def all_delivered(name):
    """The same for all precisions of a model."""
    precisions = CONFIG.precisions_of(name)
    return expand([f for precision in precisions for f in delivered(precision)], model=name)


def source_of(name):
    """Where a model comes from, for its manifest."""
    model = CONFIG.models[name]
    source = {"kind": model.source}
    if model.source == "huggingface":
        source |= {"repo_id": model.repo_id, "revision": model.revision}
        source["commit"] = snapshot(name).commit
    if model.source == "exp_dir":
        keys = {"exp_dir", "epoch", "iter", "avg", "use_averaged_model"}
        source["chosen"] = model.model_dump(include=keys, exclude_none=True)
    return source


def configuration_of(name):
    """What of the configuration a model is made with."""
    precisions = set(CONFIG.precisions_of(name))
    # As stated: a pattern may stand for more recordings than a command can name.
    stated = config["models"][name]
    wavs = {key: stated[key] for key in ("test_wavs", "calibration_wavs") if key in stated}
    return {
        "model": CONFIG.models[name].model_dump() | wavs,
        "precisions": CONFIG.precisions.model_dump(include=precisions),
        "verification": CONFIG.verification.model_dump(),
    }


def folders():
    """Folders that can be asked for, with the files that they stand for."""
    for name in CONFIG.models:
        yield f"results/{name}", artifacts_of(name)
        for precision in CONFIG.precisions_of(name):
            folder = f"results/{name}/sherpa-ncnn/{precision}"
            yield folder, expand(delivered(precision), model=name)


def networks_of(precision):
    """The plain ncnn files of a precision, encoder, decoder and joiner."""
    return [f for part, stored in parts_of(precision).items() for f in plain(part, stored)]


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


def by_precision(wildcards, files_of_one):
    """Files of each precision of a model: inputs that bear the precisions' names."""
    return {
        precision: expand(files_of_one(precision), model=wildcards.model)
        for precision in CONFIG.precisions_of(wildcards.model)
    }


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


def whereabouts(path):
    """Where a file is for a person: here, or at its address in a storage."""
    stored = getattr(path, "flags", {}).get("storage_object")
    return stored.query if stored else str(path)


def summarize():
    """Say what became of the run's models."""
    failed_in = {
        job: submitted
        for submitted in workflow.scheduler.failed
        for job in (submitted.jobs if submitted.is_group() else [submitted])
    }
    jobs = [
        summary.Job(
            model=job.wildcards.model,
            message=job.message,
            log=Path(job.log[0]),
            delivers=(
                whereabouts(job.output.tokens).rpartition("/")[0]
                if job.rule.name in ("deliver", "deliver_int8")
                else None
            ),
            done=workflow.dag.noneedrun_finished(job),
            # A group's other jobs may be done.
            failed_in=None if workflow.dag.finished(job) else failed_in.get(job),
        )
        for job in workflow.dag.jobs
        if "model" in job.wildcards_dict
    ]
    if jobs:
        try:
            print(*summary.lines(Path("results"), jobs), "", sep="\n")
        except UserError as e:
            print(f"error: {e}", file=sys.stderr)
