# Recordings with transcripts, decoded by sherpa-ncnn in every precision and by PyTorch: how right
# each is, how fast, in what memory. What is decoded here is verified, and not delivered yet.


#: How to search, for the scripts; and what they are given besides, if there are hotwords.
HOTWORDS = []
decoding_arguments = f"--decoding {CONFIG.evaluation.decoding}"
if CONFIG.evaluation.decoding == "modified_beam_search":
    decoding_arguments += f" --num-active-paths {CONFIG.evaluation.num_active_paths}"
if CONFIG.evaluation.hotwords_file:
    HOTWORDS = [placed(CONFIG.evaluation.hotwords_file)]
    decoding_arguments += f" --hotwords-score {CONFIG.evaluation.hotwords_score}"


#: How texts are compared, for the scripts.
scoring_options = f"--normalise {shlex.quote(CONFIG.evaluation.normalise.model_dump_json())}"
if CONFIG.evaluation.unit:
    scoring_options += f" --unit {CONFIG.evaluation.unit}"


rule check_recordings:
    input:
        evaluated,
        hotwords=HOTWORDS,
        # What hotwords are made of.
        description=lambda wildcards: (
            expand("results/{model}/model.json", **wildcards) if HOTWORDS else []
        ),
        tokens=lambda wildcards: (
            expand("results/{model}/tokens.txt", **wildcards) if HOTWORDS else []
        ),
    output:
        "results/{model}/evaluation/manifest.jsonl",
    log:
        "logs/{model}/check_recordings.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400),
        runtime=minutes(5, per_minute=0.1, audio_mb=evaluation_mb),
    params:
        manifest=lambda wildcards: evaluation_options(wildcards.model),
        hotwords=lambda wildcards, input: (
            f"--hotwords {shlex.join([*input.hotwords, *input.tokens, *input.description])}"
            if input.hotwords
            else ""
        ),
        code=code("check_recordings", "soundfile", "soxr"),
    message:
        "{wildcards.model}: listing the recordings of its evaluation"
    shell:
        "python -m workflow_scripts.check_recordings"
        " {params.manifest}"
        " {params.hotwords}"
        " --output {output:q}"
        " > {log:q} 2>&1 && tail -n 1 {log:q}"


rule decode_pytorch:
    input:
        checkpoint=checkpoint,
        description="results/{model}/model.json",
        tokens="results/{model}/tokens.txt",
        manifest="results/{model}/evaluation/manifest.jsonl",
        hotwords=HOTWORDS,
    output:
        "results/{model}/evaluation/decoded/pytorch/{shard}-of-{shards}.jsonl",
    log:
        "logs/{model}/decode-pytorch-{shard}-of-{shards}.log",
    conda:
        "../envs/export.yaml"
    # One thread, so that the sums are rounded the same on every machine; shards use more cores.
    threads: 1
    resources:
        mem_mb=memory(500, per_mb=2),
        runtime=minutes(5, per_gb=20, per_minute=10, audio_mb=decoded_mb),
    params:
        decoding=decoding_arguments,
        hotwords=options(("hotwords",)),
        cache=cache_of,
        code=code("decode_pytorch", "torch", "kaldi-native-fbank", "soundfile"),
    message:
        "{wildcards.model}: decoding with PyTorch, shard {wildcards.shard} of {wildcards.shards}"
    shell:
        "python -m workflow_scripts.decode_pytorch"
        " --checkpoint {input.checkpoint:q}"
        " --description {input.description:q}"
        " --manifest {input.manifest:q}"
        " --tokens {input.tokens:q}"
        " {params.decoding}"
        " {params.hotwords}"
        " --shard {wildcards.shard}"
        " --shards {wildcards.shards}"
        " --cache {params.cache:q}"
        " --code {params.code}"
        " --output {output:q}"
        # Seen while it runs, as well as logged: it may take long.
        " 2>&1 | tee {log:q}"


rule decode_sherpa_ncnn:
    input:
        unpack(networks),
        verification="results/{model}/verification/{precision}.json",
        description="results/{model}/model.json",
        tokens="results/{model}/tokens.txt",
        manifest="results/{model}/evaluation/manifest.jsonl",
        hotwords=HOTWORDS,
    output:
        "results/{model}/evaluation/decoded/{precision}/{shard}-of-{shards}.jsonl",
    log:
        "logs/{model}/decode-{precision}-{shard}-of-{shards}.log",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400, per_mb=3),
        runtime=minutes(5, per_gb=20, per_minute=10, audio_mb=decoded_mb),
    params:
        decoding=decoding_arguments,
        hotwords=options(("hotwords",)),
        cache=cache_of,
        code=code("decode_sherpa_ncnn", "sherpa-ncnn", "soundfile"),
    message:
        "{wildcards.model}: decoding with {wildcards.precision}, shard {wildcards.shard} of "
        "{wildcards.shards}"
    shell:
        "python -m workflow_scripts.decode_sherpa_ncnn"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --description {input.description:q}"
        " --manifest {input.manifest:q}"
        " --tokens {input.tokens:q}"
        " {params.decoding}"
        " {params.hotwords}"
        " --shard {wildcards.shard}"
        " --shards {wildcards.shards}"
        " --cache {params.cache:q}"
        " --code {params.code}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule score:
    input:
        description="results/{model}/model.json",
        tokens="results/{model}/tokens.txt",
        manifest="results/{model}/evaluation/manifest.jsonl",
        pytorch=lambda wildcards: decoded("pytorch", wildcards.model),
        sherpa_ncnn=lambda wildcards: decoded(wildcards.precision, wildcards.model),
    output:
        report(
            "results/{model}/evaluation/{precision}.json",
            caption="../report/score.rst",
            category="Evaluation",
            labels={"model": "{model}", "precision": "{precision}", "figures": "accuracy"},
        ),
    log:
        "logs/{model}/score-{precision}.log",
    group:
        "score"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400),
        runtime=minutes(5, per_minute=0.1, audio_mb=evaluation_mb),
    params:
        code=code("score", "jiwer", "rapidfuzz", "numpy"),
        scoring=scoring_options,
        decoding=CONFIG.evaluation.decoding,
    message:
        "{wildcards.model}: scoring {wildcards.precision}"
    shell:
        "python -m workflow_scripts.score"
        " --precision {wildcards.precision}"
        " --description {input.description:q}"
        " --tokens {input.tokens:q}"
        " --manifest {input.manifest:q}"
        " {params.scoring}"
        " --pytorch {input.pytorch:q}"
        " --sherpa-ncnn {input.sherpa_ncnn:q}"
        " --decoding {params.decoding}"
        " --output {output:q}"
        " > {log:q} 2>&1 && tail -n 1 {log:q}"


rule compare_precisions:
    input:
        unpack(lambda wildcards: by_precision(wildcards, lambda x: decoded(x, wildcards.model))),
        description="results/{model}/model.json",
        tokens="results/{model}/tokens.txt",
        manifest="results/{model}/evaluation/manifest.jsonl",
        pytorch=lambda wildcards: decoded("pytorch", wildcards.model),
    output:
        "results/{model}/evaluation/comparison.json",
    log:
        "logs/{model}/compare_precisions.log",
    group:
        "report"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400),
        runtime=minutes(5, per_minute=0.1, audio_mb=evaluation_mb),
    params:
        heard=given_by_precision("--heard"),
        code=code("compare_precisions", "jiwer", "numpy"),
        scoring=scoring_options,
    message:
        "{wildcards.model}: comparing the error rates of PyTorch and the precisions"
    shell:
        "python -m workflow_scripts.compare_precisions"
        " --description {input.description:q}"
        " --tokens {input.tokens:q}"
        " --manifest {input.manifest:q}"
        " {params.scoring}"
        " --pytorch {input.pytorch:q}"
        " {params.heard}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule measure_speed:
    input:
        unpack(lambda wildcards: by_precision(wildcards, networks_of)),
        verification=of_every_precision("results/{model}/verification/{precision}.json"),
        description="results/{model}/model.json",
        tokens="results/{model}/tokens.txt",
        manifest="results/{model}/evaluation/manifest.jsonl",
        hotwords=HOTWORDS,
    output:
        report(
            "results/{model}/evaluation/speed.json",
            caption="../report/speed.rst",
            category="Evaluation",
            labels={"model": "{model}", "precision": "all", "figures": "speed and memory"},
        ),
    log:
        "logs/{model}/measure_speed.log",
    conda:
        "../envs/export.yaml"
    # All of them, so that nothing else runs at the same time; it computes with params.threads.
    threads: all_cores
    resources:
        mem_mb=memory(400, per_mb=3),
        runtime=minutes(60, per_gb=60),
    params:
        precisions=given_by_precision("--precision"),
        decoding=decoding_arguments,
        hotwords=options(("hotwords",)),
        rounds=CONFIG.evaluation.rounds,
        threads=CONFIG.transcription.threads,
        code=code("measure_speed", "sherpa-ncnn"),
    message:
        "{wildcards.model}: measuring sherpa-ncnn's speed and memory, with nothing beside it"
    shell:
        # In pages of the usual size, as ncnn has them where the model will run.
        "env -u GLIBC_TUNABLES python -m workflow_scripts.measure_speed"
        " {params.precisions}"
        " --description {input.description:q}"
        " --tokens {input.tokens:q}"
        " --manifest {input.manifest:q}"
        " {params.decoding}"
        " {params.hotwords}"
        " --rounds {params.rounds}"
        " --threads {params.threads}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule tabulate:
    input:
        scores=of_every_precision("results/{model}/evaluation/{precision}.json"),
        speed="results/{model}/evaluation/speed.json",
    output:
        report(
            "results/{model}/evaluation/table.tsv",
            caption="../report/table.rst",
            category="Evaluation",
            labels={"model": "{model}", "precision": "all", "figures": "table"},
        ),
    log:
        "logs/{model}/tabulate.log",
    group:
        "score"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(200),
        runtime=minutes(5),
    params:
        code=code("tabulate"),
    message:
        "{wildcards.model}: putting the evaluation into one table"
    shell:
        "python -m workflow_scripts.tabulate"
        " --scores {input.scores:q}"
        " --speed {input.speed:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"
