# The folder that sherpa-ncnn runs, run by it once before it is there.

#: Precisions by the parts that they quantize, for the names of their files say so.
ALIKE = {}
for precision, how in RECIPES.items():
    ALIKE.setdefault("_".join(["deliver", *how.quantized_parts]), []).append(precision)

# What a rule's files are called cannot depend on its wildcards, so there is one for each.
for rule_name, names in ALIKE.items():

    rule:
        name:
            rule_name
        input:
            unpack(networks),
            verification="results/{model}/verification/{precision}.json",
            headroom="results/{model}/verification/headroom.json",
            evaluation=gate,
            description="results/{model}/model.json",
            tokens="results/{model}/tokens.txt",
        output:
            delivered_like(names[0], "{precision}")[:-1],
            tokens="results/{model}/sherpa-ncnn/{precision}/tokens.txt",
            # Written with them, so that what is changed later differs from it.
            record=delivery_record("{precision}"),
        log:
            "logs/{model}/deliver-{precision}.log",
        wildcard_constraints:
            precision=one_of(names),
        conda:
            "../envs/export.yaml"
        threads: 1
        resources:
            mem_mb=memory(600, per_mb=2),
            runtime=minutes(5, per_gb=20),
        params:
            folder=lambda wildcards, output: Path(output.tokens).parent,
            gate=max_rise,
            # By itself, for Snakemake does not compare what depends on the input.
            max_rise=lambda wildcards: CONFIG.evaluation.max_rise.get(wildcards.precision),
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
            " --record {output.record:q}"
            " > {log:q} 2>&1"
