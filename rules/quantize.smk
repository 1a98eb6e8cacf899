# fp32 to quantized precisions: calibration on recordings, scale tables, and what it cost. What is
# observed of a model is the same for all of its precisions.


# No command, whose length the system limits: the recordings may be many. No other job names them
# all, for Snakemake spends as long on each file of a job as it does on a job.
rule list_recordings:
    input:
        calibration_wavs,
    output:
        listed="results/{model}/calibration/recordings.txt",
        # The names alone would be as they were, and what is made of a recording not seen as stale.
        status="results/{model}/calibration/recordings.status",
    log:
        "logs/{model}/list_recordings.log",
    # The check of all recordings takes it up.
    priority: BEFORE_ALL
    localrule: True
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(200),
        runtime=minutes(5),
    message:
        "{wildcards.model}: listing the calibration recordings"
    script:
        "../workflow_scripts/list_recordings.py"


rule measure_recordings:
    input:
        recordings="results/{model}/calibration/recordings.txt",
        status="results/{model}/calibration/recordings.status",
        wavs=lambda wildcards: at_hand(calibration_wavs(wildcards)),
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
        " > {log:q} 2>&1 && (grep '^warning: ' {log:q} || true) && tail -n 1 {log:q}"


rule observe:
    input:
        checkpoint=checkpoint,
        description="results/{model}/model.json",
        # It holds the recordings' hashes, so that they need not all be looked at for each shard.
        recordings="results/{model}/calibration/recordings.tsv",
        # What is in a storage has to be fetched, though.
        wavs=lambda wildcards: in_storage(calibration_wavs(wildcards)),
    output:
        "results/{model}/calibration/{shard}-of-{shards}.npz",
    log:
        "logs/{model}/observe-{shard}-of-{shards}.log",
    cache: CACHING
    conda:
        "../envs/export.yaml"
    # Shards use the cores; where there is but one, an LSTM's layers do. No sum is shared by threads,
    # so that it is rounded the same on every machine.
    threads: lambda wildcards: 2 if wildcards.shards == "1" else 1
    resources:
        mem_mb=memory(1000, per_mb=2),
        runtime=minutes(5, per_gb=20, per_minute=5, audio_mb=observed_mb),
    params:
        shard="{shard}",
        shards="{shards}",
        code=code("observe", "torch", "kaldi-native-fbank", "soundfile", "soxr"),
    message:
        "{wildcards.model}: observing activations, shard {wildcards.shard} of {wildcards.shards}"
    shell:
        "python -m workflow_scripts.observe"
        " --checkpoint {input.checkpoint:q}"
        " --description {input.description:q}"
        " --recordings {input.recordings:q}"
        " --shard {params.shard}"
        " --shards {params.shards}"
        " --threads {threads}"
        " --output {output:q}"
        # Seen while it runs, as well as logged: it may take long.
        " 2>&1 | tee {log:q}"


rule make_scale_table:
    input:
        network=stored("{part}", "fp32"),
        # An embedding, such as the decoder's, needs no calibration.
        observed=lambda wildcards: observed(wildcards) if recipe(wildcards).calibrated else [],
        description="results/{model}/model.json",
    output:
        scale_table("{part}"),
    log:
        "logs/{model}/make_scale_table-{precision}-{part}.log",
    wildcard_constraints:
        precision=one_of(QUANTIZED),
    group:
        "quantize"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400, per_mb=1),
        runtime=minutes(5, per_gb=20),
    params:
        recipe=lambda wildcards: recipe(wildcards).for_table().to_json(),
        code=code("make_scale_table"),
    message:
        "{wildcards.model}: choosing the {wildcards.part}'s scales for {wildcards.precision}"
    shell:
        "python -m workflow_scripts.make_scale_table"
        " --precision {wildcards.precision}"
        " --part {wildcards.part}"
        " --network {input.network:q}"
        " --description {input.description:q}"
        " --recipe {params.recipe:q}"
        " --observed {input.observed:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule quantize:
    input:
        network=stored("{part}", "fp32"),
        table=lambda wildcards: (
            scale_table("{part}").format(**wildcards) if recipe(wildcards).has_table else []
        ),
        description="results/{model}/model.json",
        found=found_recipe,
    output:
        stored("{part}", "{precision}"),
    log:
        "logs/{model}/quantize-{precision}-{part}.log",
    wildcard_constraints:
        precision=one_of(QUANTIZED),
    group:
        "quantize"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(300, per_mb=1),
        runtime=minutes(5, per_gb=20),
    params:
        # Without the input: Snakemake does not compare what depends on that.
        recipe=lambda wildcards: (
            ""
            if wildcards.precision in SEARCHED
            else f"--recipe {shlex.quote(recipe(wildcards).for_layers().to_json())}"
        ),
        found=options(("found",)),
        table=options(("table",)),
        code=code("quantize"),
    message:
        "{wildcards.model}: quantizing the {wildcards.part} for {wildcards.precision}"
    shell:
        "python -m workflow_scripts.quantize"
        " --precision {wildcards.precision}"
        " --part {wildcards.part}"
        " --network {input.network:q}"
        " {params.table}"
        " --description {input.description:q}"
        " {params.recipe}"
        " {params.found}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule verify_int8:
    input:
        unpack(networks),
        **{f"fp32_{part}": stored(part, "fp32") for part in PARTS},
        verification="results/{model}/verification/fp32.json",
        description="results/{model}/model.json",
        # How loud these are.
        calibration=lambda wildcards: (
            f"results/{wildcards.model}/calibration/recordings.tsv"
            if RECIPES[wildcards.precision].calibrated
            else []
        ),
        # What input scales follow from.
        observed=lambda wildcards: (
            observed(wildcards) if RECIPES[wildcards.precision].calibrated else []
        ),
        found=found_recipe,
        wavs=compared_wavs,
    output:
        report(
            "results/{model}/verification/{precision}.json",
            caption="../report/verification-int8.rst",
            category="Parity",
            labels={"model": "{model}", "precision": "{precision}", "against": "fp32"},
        ),
    log:
        "logs/{model}/verify-{precision}.log",
    wildcard_constraints:
        precision=one_of(QUANTIZED),
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(600, per_mb=2, audio_mb=compared_mb),
        runtime=minutes(5, per_gb=20, per_minute=10, audio_mb=compared_mb),
    params:
        limits=lambda wildcards: json.dumps(PRECISIONS[wildcards.precision].limits()),
        calibration=options(("calibration",)),
        found=options(("found",)),
        recipes=lambda wildcards: (
            ""
            if wildcards.precision in SEARCHED
            else " ".join(
                f"--recipe {part} {shlex.quote(how.to_json())}"
                for part, how in recipe_of(wildcards.model, wildcards.precision).items()
            )
        ),
        code=code("verify_int8", "ncnn", "kaldi-native-fbank", "soundfile", "soxr", "rapidfuzz"),
    message:
        "{wildcards.model}: comparing {wildcards.precision} with fp32"
    shell:
        "python -m workflow_scripts.verify_int8"
        " --precision {wildcards.precision}"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --fp32-encoder {input.fp32_encoder:q}"
        " --fp32-decoder {input.fp32_decoder:q}"
        " --fp32-joiner {input.fp32_joiner:q}"
        " --description {input.description:q}"
        " --wavs {input.wavs:q}"
        " {params.calibration}"
        " --observed {input.observed:q}"
        " {params.recipes}"
        " {params.found}"
        " --limits {params.limits:q}"
        " --output {output:q}"
        " > {log:q} 2>&1 && (grep '^warning: ' {log:q} || true) && tail -n 1 {log:q}"


rule measure_layers:
    input:
        **{f"fp32_{part}": stored(part, "fp32") for part in PARTS},
        encoder=lambda wildcards: quantized_files(wildcards, "encoder"),
        decoder=lambda wildcards: quantized_files(wildcards, "decoder"),
        joiner=lambda wildcards: quantized_files(wildcards, "joiner"),
        observed=lambda wildcards: (
            observed(wildcards) if RECIPES[wildcards.precision].calibrated else []
        ),
        reference="results/{model}/verification/reference.npz",
        description="results/{model}/model.json",
        wavs=compared_wavs,
    output:
        report(
            "results/{model}/quantization/{precision}.json",
            caption="../report/quantization.rst",
            category="Quantization",
            labels={"model": "{model}", "precision": "{precision}"},
        ),
    log:
        "logs/{model}/measure_layers-{precision}.log",
    wildcard_constraints:
        precision=one_of(QUANTIZED),
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_mb=3, audio_mb=compared_mb),
        runtime=minutes(5, per_gb=20, per_minute=20, audio_mb=compared_mb),
    params:
        parts=lambda wildcards, input: " ".join(
            f"--{part} {shlex.join(input[part])}" for part in PARTS if input[part]
        ),
        code=code("measure_layers", "ncnn", "kaldi-native-fbank", "soundfile", "soxr"),
    message:
        "{wildcards.model}: measuring what {wildcards.precision} does to each layer"
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
