# TorchScript to ncnn.


rule convert:
    input:
        traced="results/{model}/torchscript/{part}_jit_trace-pnnx.pt",
    output:
        **dict(zip(("param", "bin"), pair("results/{model}/ncnn/{precision}", "{part}", "fp32"))),
    log:
        "logs/{model}/convert-{precision}-{part}.log",
    wildcard_constraints:
        precision=one_of(PLAIN),
    cache: CACHING
    group:
        "export"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(200, per_mb=2),
        runtime=minutes(5, per_gb=20),
    params:
        precision=lambda wildcards: wildcards.precision,
        code=code("convert", "pnnx"),
    message:
        "{wildcards.model}: converting the {wildcards.part} to {wildcards.precision}"
    shell:
        "python -m workflow_scripts.convert"
        " --traced {input.traced:q}"
        " --precision {params.precision}"
        " --output {output:q}"
        " > {log:q} 2>&1"
