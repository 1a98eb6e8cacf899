# What a model is made of: its files on this machine, in a storage or on the Hub.

import math

from transducer2ncnn.base import inputs
from transducer2ncnn.speech import manifests
from transducer2ncnn.workflow.models import is_address


@told
def snapshot(name):
    """What there is on the Hub of a model."""
    return repository(CONFIG.models[name].repo_id, CONFIG.models[name].revision)


@told
def on_hub(name, key):
    """The files on the Hub that a key of a model names."""
    named, where = getattr(CONFIG.models[name], key), f"models.{name}.{key}"
    if isinstance(named, str):
        return [snapshot(name).file(named, where)]
    return snapshot(name).matching(named or [], where)


@functools.cache
@told
def placed(path):
    """A path of the configuration: in a storage if it is an address there, or else on this
    machine, wherever results go."""
    inputs.check_name(path)
    return storage(path) if is_address(path) else local(path)


#: By origin, the first model that has it: what is fetched or averaged is in its results, for all.
OWNERS = {}
for name, model in CONFIG.models.items():
    OWNERS.setdefault(model.origin(), name)


def owner(name):
    """The model in whose results a model's fetched and averaged files are."""
    return OWNERS[CONFIG.models[name].origin()]


def files_of(name, key):
    """The files that a key of a model names; of those on the Hub, what they are here."""
    model = CONFIG.models[name]
    if model.source == "huggingface" and key in model.REMOTE:
        paths = [file.path for file in on_hub(name, key)]
        for path in paths:
            told(inputs.check_name)(path)
        return [f"results/{owner(name)}/hub/{path}" for path in paths]
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
        return f"results/{owner(wildcards.model)}/averaged.pt"
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
    in_storage = path.flags.get("storage_object")
    return in_storage.size() if in_storage else Path(path).stat().st_size


def whereabouts(path):
    """Where a file is, as messages name it: its path, or its address in a storage."""
    in_storage = getattr(path, "flags", {}).get("storage_object")
    return in_storage.query if in_storage else str(path)


def vocabulary(wildcards):
    """What the vocabulary is read from: tokens, bpe_model or both."""
    found = {key: files_of(wildcards.model, key) for key in ("tokens", "bpe_model")}
    return {key: files[0] for key, files in found.items() if files}


def test_wavs(wildcards):
    return files_of(wildcards.model, "test_wavs")


def transcripts(wildcards):
    return files_of(wildcards.model, "transcripts")


@told
def calibration_wavs(wildcards):
    found = files_of(wildcards.model, "calibration_wavs")
    if not found:
        raise UserError(
            f"models.{wildcards.model}.calibration_wavs: missing. Expected recordings that "
            "precisions such as int8-table are calibrated on."
        )
    return found


def in_storage(wavs):
    """Those recordings that a job gets only if it names them."""
    return [wav for wav in wavs if "local" not in wav.flags]


def at_hand(wavs):
    """What a job names of recordings that it has a list of: those in a storage, and one that is
    here, by which Snakemake sees that the job has to be here as well."""
    return in_storage(wavs) + [wav for wav in wavs if "local" in wav.flags][:1]


def listed_recordings(wildcards):
    """The names of a model's calibration recordings, which may be more than a command can hold, and
    what changes with them; nothing where it has none."""
    if not model_of(wildcards).calibration_wavs:
        return {}
    folder = "results/{model}/calibration"
    return {"listed": f"{folder}/recordings.txt", "status": f"{folder}/recordings.status"}


#: Recordings that a model is run on for comparisons, at most; all are in memory at once.
COMPARED = 100


def speech(wildcards):
    """The test wavs, or else those of the calibration; of many, some from the whole length."""
    wavs = test_wavs(wildcards) or files_of(wildcards.model, "calibration_wavs")
    return wavs[:: math.ceil(len(wavs) / COMPARED)] if wavs else []


@told
def compared_wavs(wildcards):
    """The same, which what is quantized cannot do without."""
    wavs = speech(wildcards)
    if not wavs:
        raise UserError(
            f"models.{wildcards.model}.test_wavs: missing. Expected recordings that "
            f"{wildcards.precision} can be compared with fp32 on, here or in `calibration_wavs`."
        )
    return wavs


def evaluation_files(name):
    """The manifest that a model is evaluated on, with the recordings that it names."""
    model = CONFIG.models[name]
    if not model.evaluation:
        return []
    return [placed(path) for path in manifests.files(model.evaluation, model.evaluation_root)]


@told
def evaluated(wildcards):
    """The same, which no error rate can do without."""
    if not model_of(wildcards).evaluation:
        raise UserError(
            f"models.{wildcards.model}.evaluation: missing. Expected recordings with transcripts, "
            "which error rates and speed are measured on."
        )
    return evaluation_files(wildcards.model)


def evaluation_options(name):
    """The same for a script; what is not stated is left out."""
    model = CONFIG.models[name]
    stated = {"manifest": model.evaluation, "root": model.evaluation_root}
    return " ".join(f"--{key} {shlex.quote(value)}" for key, value in stated.items() if value)


def checked_audio(name):
    """That a model's recordings have been checked; if it has any."""
    model = CONFIG.models[name]
    if not (model.evaluation or model.test_wavs or model.calibration_wavs):
        return []
    return [f"results/{name}/audio.json"]


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
    if name in FOUND:
        source["found"] = discovered.recorded(FOUND[name])
    return source


def origins_of(name):
    """Where settings come from that were found, and not stated."""
    model = CONFIG.models[name]
    if model.source != "huggingface":
        return {}
    return discovered.origins(FOUND.get(name, []), model.repo_id)
