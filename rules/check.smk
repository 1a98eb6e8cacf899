# All recordings of a model, checked at once. Nothing else depends on it, or a new recording would
# make all of it stale; but it is the first job of a run, and where it fails no other is started.


rule check_audio:
    input:
        unpack(listed_recordings),
        wavs=test_wavs,
        calibration=lambda wildcards: at_hand(files_of(wildcards.model, "calibration_wavs")),
        transcripts=transcripts,
        evaluation=lambda wildcards: evaluation_files(wildcards.model),
    output:
        "results/{model}/audio.json",
    log:
        "logs/{model}/check_audio.log",
    priority: BEFORE_ALL
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400),
        runtime=minutes(10, per_minute=0.1, audio_mb=evaluation_mb),
    params:
        options=options(("wavs", "listed", "transcripts")),
        evaluation=lambda wildcards: evaluation_options(wildcards.model),
        code=code("check_audio", "soundfile", "soxr"),
    message:
        "{wildcards.model}: checking all of its recordings"
    shell:
        "python -m workflow_scripts.check_audio"
        " --model {wildcards.model}"
        " {params.options}"
        " {params.evaluation}"
        " --output {output:q}"
        " > {log:q} 2>&1 && tail -n 1 {log:q}"
