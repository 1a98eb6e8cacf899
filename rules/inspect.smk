# What a checkpoint is: its sizes and settings, its number of parameters, and the vocabulary that
# goes with it.


rule inspect_checkpoint:
    input:
        checkpoint=checkpoint,
    output:
        "results/{model}/model.json",
    log:
        "logs/{model}/inspect_checkpoint.log",
    priority: MUCH_FOLLOWS
    group:
        "export"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400, per_mb=2),
        runtime=minutes(5, per_gb=10),
    params:
        family=lambda wildcards: model_of(wildcards).family,
        sizes=lambda wildcards: json.dumps(model_of(wildcards).sizes),
        settings=lambda wildcards: json.dumps(model_of(wildcards).settings),
        origins=lambda wildcards: json.dumps(origins_of(wildcards.model)),
        code=code("inspect_checkpoint", "torch"),
    message:
        "{wildcards.model}: reading the sizes off {input.checkpoint}"
    shell:
        "python -m workflow_scripts.inspect_checkpoint"
        " --checkpoint {input.checkpoint:q}"
        " --family {params.family:q}"
        " --sizes {params.sizes:q}"
        " --settings {params.settings:q}"
        " --origins {params.origins:q}"
        " --output {output:q}"
        " > {log:q} 2>&1 && tail -n 1 {log:q}"


rule make_tokens:
    input:
        unpack(vocabulary),
        description="results/{model}/model.json",
    output:
        "results/{model}/tokens.txt",
    log:
        "logs/{model}/make_tokens.log",
    localrule: True
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(200),
        runtime=minutes(5),
    params:
        given=lambda wildcards, input: " ".join(
            f"--{key} {shlex.quote(input[key])}" for key in vocabulary(wildcards)
        ),
        code=code("make_tokens", "sentencepiece"),
    message:
        "{wildcards.model}: checking its tokens"
    shell:
        "python -m workflow_scripts.make_tokens"
        " {params.given}"
        " --description {input.description:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"
