# The folder that sherpa-ncnn runs, run by it once before it is there.


rule deliver:
    input:
        encoder=plain("encoder"),
        decoder=plain("decoder"),
        joiner=plain("joiner"),
        verification="results/{model}/verification/{precision}.json",
        evaluation=gate,
        description="results/{model}/model.json",
        tokens="results/{model}/tokens.txt",
    output:
        [sherpa(part) for part in PARTS],
        tokens="results/{model}/sherpa-ncnn/{precision}/tokens.txt",
    log:
        "logs/{model}/deliver-{precision}.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(600, per_mb=3),
        runtime=minutes(5, per_gb=20),
    params:
        folder=lambda wildcards, output: Path(output.tokens).parent,
        gate=lambda wildcards, input: max_rise(wildcards, input.evaluation),
        code=code("deliver", "ncnn", "sherpa-ncnn", "kaldi-native-fbank"),
    message:
        "{wildcards.model}: putting together {params.folder}"
    shell:
        "python -m workflow_scripts.deliver"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --description {input.description:q}"
        " --tokens {input.tokens:q}"
        " {params.gate}"
        " --output {params.folder:q}"
        " > {log:q} 2>&1"
