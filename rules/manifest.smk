# What was delivered, from what, and by what: written down, and checked against.

from transducer2ncnn.workflow import provenance


rule manifest:
    input:
        source="results/{model}/source.json",
        description="results/{model}/model.json",
        delivered=lambda wildcards: all_delivered(wildcards.model),
        tokens="results/{model}/tokens.txt",
        verification=of_every_precision("results/{model}/verification/{precision}.json"),
        evaluation=evaluations,
        records=of_every_precision(delivery_record("{precision}")),
    output:
        "results/{model}/manifest.json",
    log:
        "logs/{model}/manifest.log",
    # What was changed by hand is told before anything is made of it.
    priority: BEFORE_ALL
    group:
        "record"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(200),
        runtime=minutes(5, per_gb=10),
    params:
        config=lambda wildcards: json.dumps(configuration_of(wildcards.model)),
        max_rise=lambda wildcards: json.dumps(
            allowed_rises(wildcards.model, CONFIG.precisions_of(wildcards.model))
        ),
        evaluation=options(("evaluation",)),
        code=code("manifest", *provenance.DISTRIBUTIONS),
    message:
        "{wildcards.model}: writing the manifest"
    shell:
        "python -m workflow_scripts.manifest"
        " --source {input.source:q}"
        " --description {input.description:q}"
        " --tokens {input.tokens:q}"
        " --verification {input.verification:q}"
        " {params.evaluation}"
        " --max-rise {params.max_rise:q}"
        " --records {input.records:q}"
        " --config {params.config:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


# It has no input: what was changed by hand should be found, not made anew.
rule check_manifest:
    log:
        "logs/check_manifest.log",
    localrule: True
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=200,
        runtime=60,
    message:
        "checking results against their manifests"
    shell:
        "python -m workflow_scripts.check_manifest --results results 2>&1 | tee {log:q}"
