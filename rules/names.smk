# Names of files: which ncnn files a precision consists of, and where they are.

from transducer2ncnn.base.layout import TRANSCRIBE, file_name
from transducer2ncnn.families import registry
from transducer2ncnn.quantization import sharing
from transducer2ncnn.workflow import kept


def pair(folder, part, precision):
    """The param and the bin of a part."""
    return [f"{folder}/{file_name(part, precision, kind)}" for kind in ("param", "bin")]


def traced(part):
    """TorchScript of a part."""
    return f"results/{{model}}/torchscript/{part}_jit_trace-pnnx.pt"


def stored(part, precision):
    """The ncnn files of a part: plain ones of fp32 or fp16, or a precision's quantized ones."""
    return pair(f"results/{{model}}/ncnn/{precision}", part, precision)


def scale_table(part, precision="{precision}"):
    return f"results/{{model}}/ncnn/{precision}/{part}-scale-table.txt"


def parts_of(precision):
    """Whose ncnn files each part of a precision is: plain ones, or its own."""
    return {part: RECIPES[precision].plain.get(part, precision) for part in PARTS}


def networks_of(precision):
    """The ncnn files of a precision: encoder, decoder and joiner."""
    return [f for part, whose in parts_of(precision).items() for f in stored(part, whose)]


def delivered(precision):
    """The files of a folder for sherpa-ncnn; the last is tokens.txt."""
    return delivered_like(precision, precision)


def delivered_like(precision, name):
    """The same of the folder ``name``, whose files are called as a precision's are."""
    folder = f"results/{{model}}/sherpa-ncnn/{name}"
    files = [f for part, whose in parts_of(precision).items() for f in pair(folder, part, whose)]
    return [*files, f"{folder}/{TRANSCRIBE}", f"{folder}/tokens.txt"]


def delivery_record(precision):
    """What the job that delivers a precision records of its files."""
    return f"results/{{model}}/delivered/{precision}.json"


def networks(wildcards):
    """The ncnn files of each part, in the precision that the wildcard names."""
    return {part: stored(part, whose) for part, whose in parts_of(wildcards.precision).items()}


def decoded(system, model):
    """What a system recognised, in all shards."""
    shards = CONFIG.evaluation.shards
    if shards is None:
        shards = 2 if audio_mb(model, "evaluation") > MINUTE_MB else 1
    return expand(
        "results/{model}/evaluation/decoded/{system}/{shard}-of-{shards}.jsonl",
        model=model,
        system=system,
        shard=range(1, shards + 1),
        shards=shards,
    )


def by_precision(wildcards, files_of_one):
    """Files of each precision of a model: named inputs, for ``given_by_precision``."""
    return {
        # A user's name by itself could be that of another input.
        f"of_{precision}": files_of_one(precision)
        for precision in CONFIG.precisions_of(wildcards.model)
    }


def run_on_targets(precision):
    """What of a precision is run on an emulated processor: tokens.txt of its folder for
    sherpa-ncnn, beside which the rest is, and its files for plain ncnn."""
    return [delivered(precision)[-1], *networks_of(precision)]


def given_by_precision(option):
    """A rule's parameter: these files as a script is given them, each with the precision's name."""
    return lambda wildcards, input: " ".join(
        f"{option} {precision} {shlex.join(input[f'of_{precision}'])}"
        for precision in CONFIG.precisions_of(wildcards.model)
    )


def options(names):
    """A rule's parameter: inputs as options of a script, those that there are."""

    def given(wildcards, input):
        for name, files in input.items():
            if name in names and files:
                words = [files] if isinstance(files, str) else files
                yield f"--{name.replace('_', '-')} {shlex.join(words)}"

    return lambda wildcards, input: " ".join(given(wildcards, input))


def of_every_precision(path):
    """A path with {precision} in it, for each precision of a model."""
    return lambda wildcards: expand(
        path, precision=CONFIG.precisions_of(wildcards.model), model=wildcards.model
    )


def cache_of(wildcards):
    """The folder of what a system decoded before; always on this machine."""
    return f"results/{wildcards.model}/evaluation/cache/{wildcards.get('precision', 'pytorch')}"


def recipe_of(name, precision):
    """How a precision's quantized parts are stored, by part: as its recipe says, less the layers
    that the model keeps."""
    keep = CONFIG.models[name].keep
    return {
        part: replace(how, keep=(*how.keep, *keep.get(part, ())))
        for part, how in RECIPES[precision].quantized_parts.items()
    }


@told
def recipe(wildcards):
    """How a part is quantized."""
    precision, part = wildcards.precision, wildcards.part
    how = recipe_of(wildcards.model, precision).get(part)
    if how is None:
        raise UserError(
            f"precisions.{precision}: its {part} is not quantized. It is what is in "
            f"results/{wildcards.model}/ncnn/{parts_of(precision)[part]}."
        )
    return how


def found_recipe(wildcards):
    """What a search found, of a precision whose recipe is searched."""
    if wildcards.precision not in SEARCHED:
        return []
    return f"results/{wildcards.model}/search/{wildcards.precision}.json"


def observed(wildcards):
    """What was observed of the calibration recordings, in all shards."""
    # A shard is a number of whole batches, and without any there is no job.
    family = registry.find(model_of(wildcards).family)
    recordings = len(calibration_wavs(wildcards))
    batches = sharing.number_of_batches(recordings, family.architecture.any_length)
    shards = min(CONFIG.calibration_shards(), batches)
    return expand(
        "results/{model}/calibration/{shard}-of-{shards}.npz",
        model=wildcards.model,
        shard=range(1, shards + 1),
        shards=shards,
    )


def quantized_files(wildcards, part):
    """The quantized files of a part, with its table if it has one."""
    how = RECIPES[wildcards.precision].quantized_parts.get(part)
    if how is None:
        return []
    files = stored(part, wildcards.precision)
    if how.has_table:
        files.append(scale_table(part, wildcards.precision))
    return files


# Before the run, and not again in each of its jobs.
if workflow.is_main_process:
    for name, model in CONFIG.models.items():
        stored_as = {p: recipe_of(name, p) for p in CONFIG.precisions_of(name)}
        if any(kept.named(how) for parts in stored_as.values() for how in parts.values()):
            if model.source == "huggingface" or not model.here():
                continue
            # Seldom, so that other runs need not wait for torch.
            from transducer2ncnn.families.model import weighted_modules

            try:
                modules = weighted_modules(model.checkpoints()[0], model.family, model.settings)
                kept.check(modules, stored_as, Path("results", name, "ncnn", "fp32"))
            except UserError as e:
                refuse(f"models.{name}: {e}")


def searched(precision):
    """What a search finds: for the workflow and the report, as a table, and as configuration."""
    return [f"results/{{model}}/search/{precision}.{kind}" for kind in ("json", "tsv", "yaml")]
