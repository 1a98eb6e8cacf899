# fp32 to int8: calibration on recordings, scale tables, quantization, and what it cost.


# No command, whose length the system limits: the recordings may be many.
rule list_recordings:
    input:
        calibration_wavs,
    output:
        "results/{model}/calibration/recordings.txt",
    log:
        "logs/{model}/list_recordings.log",
    localrule: True
    threads: 1
    resources:
        mem_mb=memory(200),
        runtime=minutes(5),
    message:
        "{wildcards.model}: listing the calibration recordings"
    run:
        write_text(output[0], "".join(f"{wav}\n" for wav in input))


rule measure_recordings:
    input:
        recordings="results/{model}/calibration/recordings.txt",
        wavs=calibration_wavs,
    output:
        "results/{model}/calibration/recordings.tsv",
    log:
        "logs/{model}/measure_recordings.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(300),
        runtime=minutes(5, per_minute=0.1, audio_mb=calibration_mb),
    params:
        code=code("measure_recordings", "soundfile"),
    message:
        "{wildcards.model}: measuring the calibration recordings"
    shell:
        "python -m workflow_scripts.measure_recordings"
        " --recordings {input.recordings:q}"
        " --output {output:q}"
        # Its warnings and what it found.
        " > {log:q} 2>&1 && (grep '^warning: ' {log:q} || true) && tail -n 1 {log:q}"


rule observe:
    input:
        checkpoint=checkpoint,
        description="results/{model}/model.json",
        # It holds the recordings' hashes, so that they need not all be looked at for each shard.
        recordings="results/{model}/calibration/recordings.tsv",
        # What is in a storage has to be fetched, though.
        wavs=lambda wildcards: [f for f in calibration_wavs(wildcards) if "local" not in f.flags],
    output:
        "results/{model}/calibration/{shard}-of-{shards}.npz",
    log:
        "logs/{model}/observe-{shard}-of-{shards}.log",
    cache: CACHING
    conda:
        "../envs/export.yaml"
    # One thread, so that the sums are rounded the same on every machine; shards use more cores.
    threads: 1
    resources:
        mem_mb=memory(1000, per_mb=2),
        runtime=minutes(5, per_gb=20, per_minute=5, audio_mb=observed_mb),
    params:
        family=lambda wildcards: model_of(wildcards).family,
        shard=lambda wildcards: wildcards.shard,
        shards=lambda wildcards: wildcards.shards,
        code=code("observe", "torch", "kaldi-native-fbank", "soundfile", "soxr"),
    message:
        "{wildcards.model}: observing activations, shard {wildcards.shard} of {wildcards.shards}"
    shell:
        "python -m workflow_scripts.observe"
        " --checkpoint {input.checkpoint:q}"
        " --family {params.family:q}"
        " --recordings {input.recordings:q}"
        " --shard {params.shard}"
        " --shards {params.shards}"
        " --output {output:q}"
        # Seen while it runs, as well as logged: it may take long.
        " 2>&1 | tee {log:q}"


observed_shards = expand(
    "results/{{model}}/calibration/{shard}-of-{shards}.npz",
    shard=range(1, CONFIG.precisions.int8.shards + 1),
    shards=CONFIG.precisions.int8.shards,
)


rule make_scale_table:
    input:
        network=plain("{part}", "fp32"),
        # The decoder's embedding needs no calibration.
        observed=lambda wildcards: ([] if wildcards.part == "decoder" else observed_shards),
    output:
        "results/{model}/ncnn/int8/{part}-scale-table.txt",
    log:
        "logs/{model}/make_scale_table-{part}.log",
    group:
        "quantize"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400, per_mb=1),
        runtime=minutes(5, per_gb=20),
    params:
        lstm=lambda wildcards: "--lstm" if CONFIG.precisions.int8.lstm else "",
        keep=lambda wildcards: shlex.join(CONFIG.precisions.int8.keep.get(wildcards.part, [])),
        code=code("make_scale_table"),
    message:
        "{wildcards.model}: choosing the {wildcards.part}'s scales"
    shell:
        "python -m workflow_scripts.make_scale_table"
        " --part {wildcards.part}"
        " --network {input.network:q}"
        " --observed {input.observed:q}"
        " {params.lstm}"
        " --keep {params.keep}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule quantize:
    input:
        network=plain("{part}", "fp32"),
        table="results/{model}/ncnn/int8/{part}-scale-table.txt",
    output:
        plain("{part}", "int8"),
    log:
        "logs/{model}/quantize-{part}.log",
    group:
        "quantize"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(300, per_mb=1),
        runtime=minutes(5, per_gb=20),
    params:
        rest=lambda wildcards: CONFIG.precisions.int8.rest,
        code=code("quantize"),
    message:
        "{wildcards.model}: quantizing the {wildcards.part}"
    shell:
        "python -m workflow_scripts.quantize"
        " --network {input.network:q}"
        " --table {input.table:q}"
        " --rest {params.rest}"
        " --output {output:q}"
        " > {log:q} 2>&1"


# What the int8 folder is made of, which is for the configuration to say.
int8_parts = {part: plain(part, stored) for part, stored in parts_of("int8").items()}
# The parts that are quantized, likewise.
quantized_parts = [part for part, stored in parts_of("int8").items() if stored == "int8"]


rule verify_int8:
    input:
        **int8_parts,
        **{f"fp32_{part}": plain(part, "fp32") for part in PARTS},
        verification="results/{model}/verification/fp32.json",
        description="results/{model}/model.json",
        calibration=(
            "results/{model}/calibration/recordings.tsv"
            if {"encoder", "joiner"} & {*quantized_parts}
            else []
        ),
        wavs=compared_wavs,
    output:
        report(
            "results/{model}/verification/int8.json",
            caption="../report/verification-int8.rst",
            category="Parity",
            labels={"model": "{model}", "precision": "int8", "against": "fp32"},
        ),
    log:
        "logs/{model}/verify-int8.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(600, per_mb=2, audio_mb=compared_mb),
        runtime=minutes(5, per_gb=20, per_minute=10, audio_mb=compared_mb),
    params:
        limits=limits_of_int8(),
        calibration=lambda wildcards, input: (
            f"--calibration {shlex.quote(input.calibration)}" if input.calibration else ""
        ),
        code=code("verify_int8", "ncnn", "kaldi-native-fbank", "soundfile", "soxr", "rapidfuzz"),
    message:
        "{wildcards.model}: comparing int8 with fp32"
    shell:
        "python -m workflow_scripts.verify_int8"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --fp32-encoder {input.fp32_encoder:q}"
        " --fp32-decoder {input.fp32_decoder:q}"
        " --fp32-joiner {input.fp32_joiner:q}"
        " --description {input.description:q}"
        " --wavs {input.wavs:q}"
        " {params.calibration}"
        " {params.limits}"
        " --output {output:q}"
        " > {log:q} 2>&1 && (grep '^warning: ' {log:q} || true) && tail -n 1 {log:q}"


rule measure_layers:
    input:
        **{
            part: [*plain(part, "int8"), f"results/{{model}}/ncnn/int8/{part}-scale-table.txt"]
            for part in quantized_parts
        },
        **{f"fp32_{part}": plain(part, "fp32") for part in PARTS},
        # As above.
        observed=observed_shards if {"encoder", "joiner"} & {*quantized_parts} else [],
        reference="results/{model}/verification/reference.npz",
        description="results/{model}/model.json",
        wavs=compared_wavs,
    output:
        report(
            "results/{model}/quantization.json",
            caption="../report/quantization.rst",
            category="Quantization",
            labels={"model": "{model}", "precision": "int8"},
        ),
    log:
        "logs/{model}/measure_layers.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_mb=3, audio_mb=compared_mb),
        runtime=minutes(5, per_gb=20, per_minute=20, audio_mb=compared_mb),
    params:
        parts=lambda wildcards, input: " ".join(
            f"--{part} {shlex.join(input[part])}" for part in quantized_parts
        ),
        code=code("measure_layers", "ncnn", "kaldi-native-fbank", "soundfile", "soxr"),
    message:
        "{wildcards.model}: measuring what int8 does to each layer"
    shell:
        "python -m workflow_scripts.measure_layers"
        " --fp32-encoder {input.fp32_encoder:q}"
        " --fp32-decoder {input.fp32_decoder:q}"
        " --fp32-joiner {input.fp32_joiner:q}"
        " {params.parts}"
        " --observed {input.observed:q}"
        " --reference {input.reference:q}"
        " --description {input.description:q}"
        " --wavs {input.wavs:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


use rule deliver as deliver_int8 with:
    input:
        **int8_parts,
        verification="results/{model}/verification/int8.json",
        evaluation=gate,
        description="results/{model}/model.json",
        tokens="results/{model}/tokens.txt",
    output:
        [sherpa(part, stored, "int8") for part, stored in parts_of("int8").items()],
        tokens="results/{model}/sherpa-ncnn/int8/tokens.txt",
    log:
        "logs/{model}/deliver-int8.log",


use rule transcribe as transcribe_int8 with:
    input:
        **int8_parts,
        sherpa=[sherpa(part, stored, "int8") for part, stored in parts_of("int8").items()],
        tokens="results/{model}/sherpa-ncnn/int8/tokens.txt",
        description="results/{model}/model.json",
        wavs=test_wavs,
        references=transcripts,
    output:
        report(
            "results/{model}/transcripts/int8.tsv",
            caption="../report/transcripts.rst",
            category="Transcripts",
            labels={"model": "{model}", "precision": "int8"},
        ),
    log:
        "logs/{model}/transcribe-int8.log",
    message:
        "{wildcards.model}: transcribing with int8"
