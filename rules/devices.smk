# Delivered precisions on emulated ARM processors, where the configuration names some.


rule install_emulator:
    output:
        # The folder around it is what counts, which no storage holds.
        local(".snakemake/emulator/installed.json"),
    log:
        "logs/install_emulator.log",
    # A cluster's nodes seldom reach the Internet; the machine that submits its jobs does.
    localrule: True
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        code=cached_digest("workflow_scripts/install_emulator.py"),
    message:
        "fetching an emulator of ARM processors"
    shell:
        "python -m workflow_scripts.install_emulator --output {params.folder} > {log:q} 2>&1"


rule verify_target:
    input:
        unpack(lambda wildcards: by_precision(wildcards, run_on_targets)),
        emulator=local(".snakemake/emulator/installed.json"),
        reference="results/{model}/verification/reference.npz",
        description="results/{model}/model.json",
        wavs=test_wavs,
    output:
        "results/{model}/verification/target-{cpu}.json",
    log:
        "logs/{model}/verify_target-{cpu}.log",
    wildcard_constraints:
        cpu=one_of(CONFIG.targets),
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_mb=4, audio_mb=test_wavs_mb),
        runtime=minutes(60, per_gb=300),
    params:
        emulator=lambda wildcards, input: Path(input.emulator).parent,
        precisions=lambda wildcards, input: " ".join(
            f"--precision {precision} {shlex.quote(str(Path(input[f'of_{precision}'][0]).parent))}"
            f" {shlex.join(input[f'of_{precision}'][1:])}"
            for precision in CONFIG.precisions_of(wildcards.model)
        ),
        quantized=QUANTIZED,
        wavs=options(("wavs",)),
        tolerance=CONFIG.verification.target_tolerance,
        code=code("verify_target", "ncnn", "sherpa-ncnn", "soundfile", "soxr"),
    message:
        "{wildcards.model}: running it on an emulated {wildcards.cpu}"
    shell:
        "python -m workflow_scripts.verify_target"
        " --emulator {params.emulator:q}"
        " --cpu {wildcards.cpu}"
        " --reference {input.reference:q}"
        " --description {input.description:q}"
        " {params.precisions}"
        " --quantized {params.quantized}"
        " --tolerance {params.tolerance}"
        " {params.wavs}"
        " --output {output:q}"
        " > {log:q} 2>&1 && (grep '^warning: ' {log:q} || true) && tail -n 1 {log:q}"
