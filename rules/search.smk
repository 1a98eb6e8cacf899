# The cheapest formats of all layers that lose no more than a budget. What a model's layers cost in
# fidelity is measured once, for all of its precisions that are searched.


rule measure_sensitivity:
    input:
        **{part: stored(part, "fp32") for part in PARTS},
        verification="results/{model}/verification/fp32.json",
        description="results/{model}/model.json",
        wavs=compared_wavs,
    output:
        "results/{model}/sensitivity/{shard}-of-{shards}.jsonl",
    log:
        "logs/{model}/measure_sensitivity-{shard}-of-{shards}.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(600, per_mb=4, audio_mb=compared_mb),
        runtime=minutes(30, per_gb=3000),
    params:
        keep=lambda wildcards: json.dumps(model_of(wildcards).keep),
        cache=lambda wildcards: f"results/{wildcards.model}/sensitivity/cache",
        code=code("measure_sensitivity", "ncnn", "kaldi-native-fbank", "soundfile", "soxr"),
    message:
        "{wildcards.model}: measuring what layers cost in each format, shard {wildcards.shard} of "
        "{wildcards.shards}"
    shell:
        "python -m workflow_scripts.measure_sensitivity"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --description {input.description:q}"
        " --keep {params.keep:q}"
        " --wavs {input.wavs:q}"
        " --shard {wildcards.shard}"
        " --shards {wildcards.shards}"
        " --cache {params.cache:q}"
        " --code {params.code}"
        " --output {output:q}"
        # Seen while it runs, as well as logged: it may take long.
        " 2>&1 | tee {log:q}"


rule time_formats:
    input:
        **{part: stored(part, "fp32") for part in PARTS},
        description="results/{model}/model.json",
        wavs=compared_wavs,
    output:
        "results/{model}/sensitivity/times.json",
    log:
        "logs/{model}/time_formats.log",
    conda:
        "../envs/export.yaml"
    # All of them, so that nothing else runs at the same time; it computes with one.
    threads: all_cores
    resources:
        mem_mb=memory(600, per_mb=4, audio_mb=compared_mb),
        runtime=minutes(10, per_gb=60),
    params:
        keep=lambda wildcards: json.dumps(model_of(wildcards).keep),
        code=code("time_formats", "ncnn", "kaldi-native-fbank"),
    message:
        "{wildcards.model}: measuring how long layers take in each format, with nothing beside it"
    shell:
        # In pages of the usual size, as ncnn has them where the model will run.
        "env -u GLIBC_TUNABLES python -m workflow_scripts.time_formats"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --description {input.description:q}"
        " --keep {params.keep:q}"
        " --wavs {input.wavs:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule search_recipe:
    input:
        **{part: stored(part, "fp32") for part in PARTS},
        sensitivity=expand(
            "results/{{model}}/sensitivity/{shard}-of-{shards}.jsonl",
            shard=range(1, CONFIG.sensitivity.shards + 1),
            shards=CONFIG.sensitivity.shards,
        ),
        times=lambda wildcards: (
            f"results/{wildcards.model}/sensitivity/times.json"
            if PRECISIONS[wildcards.precision].auto.minimise == "time"
            else []
        ),
        description="results/{model}/model.json",
        tokens="results/{model}/tokens.txt",
        manifest=lambda wildcards: (
            f"results/{wildcards.model}/evaluation/manifest.jsonl"
            if model_of(wildcards).evaluation
            else []
        ),
        wavs=lambda wildcards: [] if model_of(wildcards).evaluation else compared_wavs(wildcards),
    output:
        found=report(
            searched("{precision}")[0],
            caption="../report/search.rst",
            category="Quantization",
            labels={"model": "{model}", "precision": "{precision}", "figures": "search"},
        ),
        table=searched("{precision}")[1],
        configuration=searched("{precision}")[2],
    log:
        "logs/{model}/search_recipe-{precision}.log",
    wildcard_constraints:
        precision=one_of(SEARCHED),
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(1200, per_mb=4),
        runtime=minutes(60, per_gb=3000),
    params:
        keep=lambda wildcards: json.dumps(model_of(wildcards).keep),
        budget=lambda wildcards: json.dumps(PRECISIONS[wildcards.precision].auto.budget()),
        limits=lambda wildcards: json.dumps(PRECISIONS[wildcards.precision].limits()),
        seconds=lambda wildcards: PRECISIONS[wildcards.precision].auto.seconds,
        scoring=lambda wildcards: scoring_options,
        options=options(("times", "manifest", "wavs")),
        code=code(
            "search_recipe",
            "ncnn",
            "kaldi-native-fbank",
            "soundfile",
            "soxr",
            "rapidfuzz",
            "jiwer",
        ),
    message:
        "{wildcards.model}: searching the recipe of {wildcards.precision}"
    shell:
        "python -m workflow_scripts.search_recipe"
        " --precision {wildcards.precision}"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --description {input.description:q}"
        " --keep {params.keep:q}"
        " --tokens {input.tokens:q}"
        " --sensitivity {input.sensitivity:q}"
        " {params.options}"
        " --seconds {params.seconds}"
        " {params.scoring}"
        " --budget {params.budget:q}"
        " --limits {params.limits:q}"
        " --output {output.found:q}"
        " --table {output.table:q}"
        " --configuration {output.configuration:q}"
        " 2>&1 | tee {log:q}"
