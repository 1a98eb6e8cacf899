# PyTorch to TorchScript: all parts in one process, for they are made of the same and loading
# PyTorch takes longer than tracing them.


rule trace:
    input:
        checkpoint=checkpoint,
        description="results/{model}/model.json",
    output:
        **{part: traced(part) for part in PARTS},
    log:
        "logs/{model}/trace.log",
    cache: CACHING
    priority: MUCH_FOLLOWS
    group:
        "export"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400, per_mb=2),
        runtime=minutes(5, per_gb=20),
    params:
        code=code("trace", "torch"),
    message:
        "{wildcards.model}: tracing the encoder, decoder and joiner"
    shell:
        "python -m workflow_scripts.trace"
        " --checkpoint {input.checkpoint:q}"
        " --description {input.description:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"
