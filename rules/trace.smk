# PyTorch to TorchScript.


rule trace:
    input:
        checkpoint=checkpoint,
        description="results/{model}/model.json",
    output:
        "results/{model}/torchscript/{part}_jit_trace-pnnx.pt",
    log:
        "logs/{model}/trace-{part}.log",
    cache: CACHING
    group:
        "export"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400, per_mb=2),
        runtime=minutes(5, per_gb=20),
    params:
        part=lambda wildcards: wildcards.part,
        code=code("trace", "torch"),
    message:
        "{wildcards.model}: tracing the {wildcards.part}"
    shell:
        "python -m workflow_scripts.trace"
        " --checkpoint {input.checkpoint:q}"
        " --description {input.description:q}"
        " --part {params.part}"
        " --output {output:q}"
        " > {log:q} 2>&1"
