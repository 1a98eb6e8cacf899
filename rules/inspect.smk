# What a checkpoint is: its sizes and its number of parameters.


rule inspect_checkpoint:
    input:
        checkpoint=lambda wildcards: model_of(wildcards).checkpoint,
        tokens=lambda wildcards: model_of(wildcards).tokens,
    output:
        "results/{model}/model.json",
    log:
        "logs/{model}/inspect_checkpoint.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards: 400 + 2 * checkpoint_mb(wildcards),
    params:
        family=lambda wildcards: model_of(wildcards).family,
        sizes=lambda wildcards: json.dumps(model_of(wildcards).sizes),
        code=code("inspect_checkpoint", "torch"),
    message:
        "{wildcards.model}: reading the sizes off {input.checkpoint}"
    shell:
        "python -m workflow_scripts.inspect_checkpoint"
        " --checkpoint {input.checkpoint:q}"
        " --tokens {input.tokens:q}"
        " --family {params.family:q}"
        " --sizes {params.sizes:q}"
        " --output {output:q}"
        " > {log:q} 2>&1 && tail -n 1 {log:q}"
