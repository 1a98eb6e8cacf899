# TorchScript to ncnn, and the weights in half precision.


rule convert:
    input:
        traced=traced("{part}"),
    output:
        **dict(zip(("param", "bin"), stored("{part}", "fp32"))),
    log:
        "logs/{model}/convert-{part}.log",
    cache: CACHING
    priority: MUCH_FOLLOWS
    group:
        "export"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(200, per_mb=2),
        runtime=minutes(5, per_gb=20),
    params:
        part="{part}",
        code=code("convert", "pnnx"),
    message:
        "{wildcards.model}: converting the {wildcards.part} to fp32"
    shell:
        "python -m workflow_scripts.convert"
        " --traced {input.traced:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule halve:
    input:
        stored("{part}", "fp32"),
    output:
        **dict(zip(("param", "bin"), stored("{part}", "fp16"))),
    log:
        "logs/{model}/halve-{part}.log",
    cache: CACHING
    group:
        "export"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(200, per_mb=1),
        runtime=minutes(5, per_gb=10),
    params:
        code=code("halve"),
    message:
        "{wildcards.model}: converting the {wildcards.part} to fp16"
    shell:
        "python -m workflow_scripts.halve"
        " --network {input:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"
