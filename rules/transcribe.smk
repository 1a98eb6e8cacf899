# The test wavs, transcribed by the real sherpa-ncnn and by plain ncnn.


rule transcribe:
    input:
        unpack(networks),
        sherpa=lambda wildcards: delivered(wildcards.precision),
        description="results/{model}/model.json",
        wavs=test_wavs,
        references=transcripts,
    output:
        report(
            "results/{model}/transcripts/{precision}.tsv",
            caption="../report/transcripts.rst",
            category="Transcripts",
            labels={"model": "{model}", "precision": "{precision}"},
        ),
    log:
        "logs/{model}/transcribe-{precision}.log",
    conda:
        "../envs/export.yaml"
    threads: CONFIG.transcription.threads
    resources:
        mem_mb=memory(600, per_mb=3, audio_mb=test_wavs_mb),
        runtime=minutes(5, per_gb=20, per_minute=10, audio_mb=test_wavs_mb),
    params:
        sherpa=lambda wildcards, input: Path(input.sherpa[0]).parent,
        references=lambda wildcards, input: (
            f"--references {shlex.join(input.references)}" if input.references else ""
        ),
        code=code("transcribe", "ncnn", "sherpa-ncnn", "kaldi-native-fbank", "soundfile", "soxr"),
    message:
        "{wildcards.model}: transcribing with {wildcards.precision}"
    shell:
        "python -m workflow_scripts.transcribe"
        " --sherpa {params.sherpa:q}"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --description {input.description:q}"
        " --wavs {input.wavs:q}"
        " {params.references}"
        " --threads {threads}"
        " --output {output:q}"
        " > {log:q} 2>&1 && tail -n 1 {log:q}"
