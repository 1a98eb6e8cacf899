# Names of files: which ncnn files a precision consists of, and where they are.

from transducer2ncnn.base.layout import file_name


def pair(folder, part, precision):
    """The param and the bin of a part."""
    return [f"{folder}/{file_name(part, precision, kind)}" for kind in ("param", "bin")]


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
    return [*files, f"{folder}/tokens.txt"]


def network(part):
    """An input function: the ncnn files of a part, in the precision that the wildcard names."""
    return lambda wildcards: expand(
        stored(part, parts_of(wildcards.precision)[part]), model=wildcards.model
    )


def decoded(system):
    """What a system recognised, in all shards."""
    return expand(
        "results/{{model}}/evaluation/decoded/{system}/{shard}-of-{shards}.jsonl",
        system=system,
        shard=range(1, CONFIG.evaluation.shards + 1),
        shards=CONFIG.evaluation.shards,
    )


def by_precision(wildcards, files_of_one):
    """Files of each precision of a model: named inputs, for ``given_by_precision``."""
    return {
        # A user's name by itself could be that of another input.
        f"of_{precision}": expand(files_of_one(precision), model=wildcards.model)
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


def of_every_precision(path):
    """A path with {precision} in it, for each precision of a model."""
    return lambda wildcards: expand(
        path, precision=CONFIG.precisions_of(wildcards.model), model=wildcards.model
    )


def cache_of(wildcards):
    """The folder of what a system decoded before; always on this machine."""
    return f"results/{wildcards.model}/evaluation/cache/{wildcards.get('precision', 'pytorch')}"


@told
def recipe(wildcards):
    """How a part is quantized, by the precision's recipe."""
    precision, part = wildcards.precision, wildcards.part
    how = RECIPES[precision].quantized_parts.get(part)
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
    calibration_wavs(wildcards)  # or else an error that says that there are none
    shards = CONFIG.calibration_shards()
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
    return expand(files, model=wildcards.model)
