# What others get of a model: its card, an archive, a repository on the Hub. None of it is part of
# `all`: `snakemake release` makes the archives, and `snakemake publish` uploads them.


@told
def release_of(name):
    """What is said of a model where it is published."""
    release = CONFIG.models[name].release
    if release is None:
        raise UserError(
            f"models.{name}.release: missing. Expected its keys `version`, `license` and "
            "`language`, which nobody but a person can say."
        )
    return release


def title_of(name):
    """What a model's archive is called."""
    release = release_of(name)
    return f"sherpa-ncnn-{release.name or name}-{release.version}"


def archive_of(name):
    return f"results/{name}/release/{title_of(name)}.tar.bz2"


#: The models that have a release, and those of them that have a repository to go to.
RELEASED = [name for name, model in CONFIG.models.items() if model.release]
PUBLISHED = [name for name in RELEASED if CONFIG.models[name].release.repo_id]


def released(wildcards):
    """The precisions of a release."""
    release_of(wildcards.model)
    return CONFIG.released(wildcards.model)


def of_every_released(path):
    """A path with {precision} in it, for each precision of a release."""
    return lambda wildcards: expand(path, precision=released(wildcards), model=wildcards.model)


def released_wavs(wildcards):
    return test_wavs(wildcards) if release_of(wildcards.model).test_wavs else []


def about_release(wildcards):
    """What a card is made of and a publication depends on, by the scripts' options."""
    files = reported(wildcards.model)
    found = {key: files[key] for key in ("manifest", "headroom", "targets") if key in files}
    for key in ("verification", "evaluation"):
        if key in files:
            found[key] = [f"results/{{model}}/{key}/{p}.json" for p in released(wildcards)]
    return {key: expand(path, model=wildcards.model) for key, path in found.items()}


def options(names):
    """A rule's parameter: inputs as options of a script, those that there are."""

    def given(wildcards, input):
        for name, files in input.items():
            if name in names and files:
                words = [files] if isinstance(files, str) else files
                yield f"--{name.replace('_', '-')} {shlex.join(words)}"

    return lambda wildcards, input: " ".join(given(wildcards, input))


ABOUT = ("manifest", "verification", "headroom", "targets", "evaluation")


rule make_card:
    input:
        unpack(about_release),
        speed=lambda wildcards: (
            f"results/{wildcards.model}/evaluation/speed.json"
            if model_of(wildcards).evaluation
            else []
        ),
        wavs=released_wavs,
        transcripts=lambda wildcards: (
            expand(
                "results/{model}/transcripts/{precision}.tsv",
                model=wildcards.model,
                precision=released(wildcards),
            )
            if released_wavs(wildcards)
            else []
        ),
        template=lambda wildcards: (
            placed(template) if (template := release_of(wildcards.model).template) else []
        ),
    output:
        "results/{model}/release/README.md",
    log:
        "logs/{model}/make_card.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400),
        runtime=minutes(5),
    params:
        options=options((*ABOUT, "speed", "wavs", "transcripts", "template")),
        precisions=released,
        title=lambda wildcards: title_of(wildcards.model),
        stated=lambda wildcards: json.dumps(release_of(wildcards.model).model_dump()),
        templates=digest("transducer2ncnn/release/templates/*"),
        code=code("make_card", "huggingface_hub", "jinja2", "soundfile"),
    message:
        "{wildcards.model}: making its model card"
    shell:
        "python -m workflow_scripts.make_card"
        " {params.options}"
        " --precisions {params.precisions}"
        " --title {params.title:q}"
        " --stated {params.stated:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule make_archive:
    input:
        manifest="results/{model}/manifest.json",
        delivered=lambda wildcards: all_delivered(wildcards.model),
        card="results/{model}/release/README.md",
        bpe_model=lambda wildcards: files_of(wildcards.model, "bpe_model"),
        wavs=released_wavs,
        references=lambda wildcards: transcripts(wildcards) if released_wavs(wildcards) else [],
    output:
        "results/{model}/release/{title}.tar.bz2",
    log:
        "logs/{model}/make_archive-{title}.log",
    wildcard_constraints:
        title=one_of(sorted({title_of(name) for name in RELEASED})),
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(300),
        runtime=minutes(10, per_gb=30),
    params:
        options=options(("manifest", "card", "bpe_model", "wavs", "references")),
        precisions=released,
        code=code("make_archive", "soundfile"),
    message:
        "{wildcards.model}: making {wildcards.title}.tar.bz2"
    shell:
        "python -m workflow_scripts.make_archive"
        " {params.options}"
        " --precisions {params.precisions}"
        " --output {output:q}"
        " > {log:q} 2>&1 && tail -n 1 {log:q}"


rule sum_archive:
    input:
        lambda wildcards: archive_of(wildcards.model),
    output:
        "results/{model}/release/SHA256SUMS",
    log:
        "logs/{model}/sum_archive.log",
    localrule: True
    threads: 1
    resources:
        mem_mb=100,
        runtime=60,
    params:
        folder=lambda wildcards, input: Path(input[0]).parent,
        name=lambda wildcards, input: Path(input[0]).name,
    message:
        "{wildcards.model}: summing up {params.name}"
    shell:
        "(cd {params.folder:q} && sha256sum {params.name:q}) > {output:q} 2> {log:q}"


rule publish_model:
    input:
        unpack(about_release),
        archive=lambda wildcards: archive_of(wildcards.model),
        sums="results/{model}/release/SHA256SUMS",
        delivered=lambda wildcards: all_delivered(wildcards.model),
        records=of_every_precision(delivery_record("{precision}")),
    output:
        "results/{model}/release/published.json",
    log:
        "logs/{model}/publish.log",
    wildcard_constraints:
        model=one_of(PUBLISHED),
    # A cluster's nodes seldom reach the Internet; the machine that submits its jobs does.
    localrule: True
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(60, per_gb=120),
    params:
        options=options((*ABOUT, "archive")),
        precisions=released,
        quantized=lambda wildcards: [p for p in released(wildcards) if p in QUANTIZED],
        max_rise=lambda wildcards: " ".join(
            f"--max-rise {shlex.quote(precision)} {points}"
            for precision, points in CONFIG.evaluation.max_rise.items()
            if precision in released(wildcards) and model_of(wildcards).evaluation
        ),
        repo_id=lambda wildcards: release_of(wildcards.model).repo_id,
        revision=lambda wildcards: release_of(wildcards.model).revision,
        public=lambda wildcards: "" if release_of(wildcards.model).private else "--public",
        code=code("publish", "huggingface_hub"),
    message:
        "{wildcards.model}: publishing it to {params.repo_id}"
    shell:
        "python -m workflow_scripts.publish"
        " {params.options}"
        " --precisions {params.precisions}"
        " --quantized {params.quantized}"
        " {params.max_rise}"
        " --repo-id {params.repo_id:q}"
        " --revision {params.revision:q}"
        " {params.public}"
        " --output {output:q}"
        # Seen while it runs, as well as logged: it may take long.
        " 2>&1 | tee {log:q}"


def wanted_of(names, key, files_of_one):
    """An input function: files of models that have a key, unless they are made on request only."""

    @told
    def inputs(wildcards):
        if not names:
            raise UserError(f"no model has {key}. Expected one in `models`: see publishing.md.")
        return [
            file
            for name in names
            if not CONFIG.models[name].on_request
            for file in files_of_one(name)
        ]

    return inputs


rule release:
    input:
        wanted_of(
            RELEASED,
            "a `release`",
            lambda name: [archive_of(name), f"results/{name}/release/SHA256SUMS"],
        ),
    localrule: True
    message:
        "the archives are made"


rule publish:
    input:
        wanted_of(
            PUBLISHED,
            "a `release` with a `repo_id`",
            lambda name: [f"results/{name}/release/published.json"],
        ),
    localrule: True
    message:
        "everything that has a repository is published"
