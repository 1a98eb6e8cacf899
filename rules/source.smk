# Where a model comes from: the Hub, a training folder, or a file that is there.


rule download:
    output:
        "results/{model}/hub/{file}",
    log:
        "logs/{model}/download/{file}.log",
    wildcard_constraints:
        model=only(lambda name: CONFIG.models[name].source == "huggingface"),
        file=".+",
    # A cluster's nodes seldom reach the Internet; the machine that submits its jobs does.
    localrule: True
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(300),
        runtime=minutes(60, per_gb=60),
    params:
        repo_id=lambda wildcards: model_of(wildcards).repo_id,
        commit=lambda wildcards: snapshot(wildcards.model).commit,
        file=told(
            lambda wildcards: json.dumps(
                asdict(snapshot(wildcards.model).file(wildcards.file, wildcards.model))
            )
        ),
        code=code("download", "huggingface_hub"),
    message:
        "{wildcards.model}: fetching {wildcards.file} of {params.repo_id}"
    shell:
        "python -m workflow_scripts.download"
        " --repo-id {params.repo_id:q}"
        " --commit {params.commit}"
        " --file {params.file:q}"
        " --output {output:q}"
        # Seen while it runs, as well as logged: it may take long.
        " 2>&1 | tee {log:q}"


rule average:
    input:
        checkpoints=lambda wildcards: checkpoints_of(wildcards.model),
    output:
        "results/{model}/averaged.pt",
    log:
        "logs/{model}/average.log",
    wildcard_constraints:
        model=only(averages),
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        # Of each training checkpoint, which holds the optimizer too, only the model is read.
        mem_mb=memory(500, per_mb=1),
        runtime=minutes(5, per_gb=30),
    params:
        interval=lambda wildcards: ("--interval" if model_of(wildcards).use_averaged_model else ""),
        code=code("average", "torch"),
    message:
        "{wildcards.model}: averaging {input.checkpoints}"
    shell:
        "python -m workflow_scripts.average"
        " --checkpoints {input.checkpoints:q}"
        " {params.interval}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule record_source:
    input:
        lambda wildcards: checkpoints_of(wildcards.model),
        unpack(vocabulary),
    output:
        "results/{model}/source.json",
    log:
        "logs/{model}/record_source.log",
    group:
        "record"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(200),
        runtime=minutes(5, per_gb=10),
    params:
        source=lambda wildcards: json.dumps(source_of(wildcards.model)),
        names=lambda wildcards: [
            whereabouts(path)
            for path in [*checkpoints_of(wildcards.model), *vocabulary(wildcards).values()]
        ],
        code=code("record_source"),
    message:
        "{wildcards.model}: recording where it comes from"
    shell:
        "python -m workflow_scripts.record_source"
        " --source {params.source:q}"
        " --files {input:q}"
        " --names {params.names:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"
