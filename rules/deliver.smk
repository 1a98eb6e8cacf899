# The folder that sherpa-ncnn runs.


rule deliver:
    input:
        ncnn=ncnn_files("results/{model}/ncnn/{precision}"),
        verification="results/{model}/verification/{precision}.json",
        description="results/{model}/model.json",
        tokens=lambda wildcards: model_of(wildcards).tokens,
    output:
        ncnn_files("results/{model}/sherpa-ncnn/{precision}"),
        tokens="results/{model}/sherpa-ncnn/{precision}/tokens.txt",
    log:
        "logs/{model}/deliver-{precision}.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=400,
    params:
        ncnn=lambda wildcards, input: Path(input.ncnn[0]).parent,
        folder=lambda wildcards, output: Path(output.tokens).parent,
        code=code("deliver"),
    message:
        "{wildcards.model}: putting together {params.folder}"
    shell:
        "python -m workflow_scripts.deliver"
        " --ncnn {params.ncnn:q}"
        " --description {input.description:q}"
        " --tokens {input.tokens:q}"
        " --output {params.folder:q}"
        " > {log:q} 2>&1"
