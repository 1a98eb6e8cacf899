# ncnn against PyTorch. What does not pass here is not delivered.


rule make_reference:
    input:
        checkpoint=checkpoint,
        description="results/{model}/model.json",
    output:
        "results/{model}/verification/reference.npz",
    log:
        "logs/{model}/make_reference.log",
    priority: MUCH_FOLLOWS
    group:
        "export"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, per_mb=2),
        runtime=minutes(5, per_gb=20),
    params:
        lengths=CONFIG.verification.lengths,
        segments=CONFIG.verification.segments,
        code=code("make_reference", "torch", "kaldi-native-fbank"),
    message:
        "{wildcards.model}: running the model in PyTorch, for reference"
    shell:
        "python -m workflow_scripts.make_reference"
        " --checkpoint {input.checkpoint:q}"
        " --description {input.description:q}"
        " --lengths {params.lengths}"
        " --segments {params.segments}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule verify:
    input:
        unpack(networks),
        reference="results/{model}/verification/reference.npz",
        description="results/{model}/model.json",
    output:
        report(
            "results/{model}/verification/{precision}.json",
            caption="../report/verification.rst",
            category="Parity",
            labels={"model": "{model}", "precision": "{precision}", "against": "PyTorch"},
        ),
    log:
        "logs/{model}/verify-{precision}.log",
    wildcard_constraints:
        precision=one_of(PRECISIONS.keys() - QUANTIZED),
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(600, per_mb=2),
        runtime=minutes(5, per_gb=20),
    params:
        stored=lambda wildcards: PRECISIONS[wildcards.precision].recipe,
        tolerance=lambda wildcards: PRECISIONS[wildcards.precision].tolerance,
        as_run=CONFIG.verification.target_tolerance,
        code=code("verify", "ncnn"),
    message:
        "{wildcards.model}: comparing {wildcards.precision} in ncnn with PyTorch"
    shell:
        "python -m workflow_scripts.verify"
        " --reference {input.reference:q}"
        " --description {input.description:q}"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --stored {params.stored}"
        " --tolerance {params.tolerance}"
        " --tolerance-as-run {params.as_run}"
        " --output {output:q}"
        " > {log:q} 2>&1 && tail -n 1 {log:q}"


# Of the fp32 files, for all precisions: they are the same function, and nearly the same numbers.
rule measure_headroom:
    input:
        **{
            part: expand(stored(part, "fp32"), model="{model}", allow_missing=True)
            for part in PARTS
        },
        reference="results/{model}/verification/reference.npz",
        description="results/{model}/model.json",
        wavs=speech,
    output:
        report(
            "results/{model}/verification/headroom.json",
            caption="../report/headroom.rst",
            category="Parity",
            labels={"model": "{model}", "precision": "all", "against": "fp16's range"},
        ),
    log:
        "logs/{model}/measure_headroom.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(600, per_mb=2),
        runtime=minutes(10, per_gb=60),
    params:
        wavs=options(("wavs",)),
        code=code("measure_headroom", "ncnn", "kaldi-native-fbank", "soundfile", "soxr"),
    message:
        "{wildcards.model}: measuring the headroom in fp16"
    shell:
        "python -m workflow_scripts.measure_headroom"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --reference {input.reference:q}"
        " --description {input.description:q}"
        " {params.wavs}"
        " --output {output:q}"
        " > {log:q} 2>&1 && (grep '^warning: ' {log:q} || true) && tail -n 1 {log:q}"
