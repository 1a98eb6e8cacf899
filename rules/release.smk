# What others get of a model: its card, an archive, a repository on the Hub. None of it is part of
# `all`: `snakemake release` makes the archives, and `snakemake publish` uploads them.


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
            of_every_released("results/{model}/transcripts/{precision}.tsv")(wildcards)
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
    conda:
        "../envs/export.yaml"
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
        max_rise=lambda wildcards: json.dumps(allowed_rises(wildcards.model, released(wildcards))),
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
        " --max-rise {params.max_rise:q}"
        " --repo-id {params.repo_id:q}"
        " --revision {params.revision:q}"
        " {params.public}"
        " --output {output:q}"
        # Seen while it runs, as well as logged: it may take long.
        " 2>&1 | tee {log:q}"


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
