# What there is to ask for and to name: models, precisions, and the layers of a model.

from transducer2ncnn.base.files import write_text
from transducer2ncnn.workflow import targets


rule list_models:
    log:
        "logs/list_models.log",
    localrule: True
    threads: 1
    resources:
        mem_mb=200,
        runtime=5,
    message:
        "listing models and precisions"
    run:
        said = "".join(f"{line}\n" for line in targets.listing(CONFIG))
        write_text(log[0], said)
        print(said, end="", flush=True)


rule tabulate_layers:
    input:
        **{part: stored(part, "fp32") for part in PARTS},
        description="results/{model}/model.json",
    output:
        "results/{model}/layers.tsv",
    log:
        "logs/{model}/tabulate_layers.log",
    localrule: True
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(200),
        runtime=minutes(5),
    params:
        code=code("tabulate_layers"),
    message:
        "{wildcards.model}: listing its layers"
    shell:
        "python -m workflow_scripts.tabulate_layers"
        " --encoder {input.encoder:q}"
        " --decoder {input.decoder:q}"
        " --joiner {input.joiner:q}"
        " --description {input.description:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule list_layers:
    input:
        [f"results/{name}/layers.tsv" for name, x in CONFIG.models.items() if not x.on_request],
    log:
        "logs/list_layers.log",
    localrule: True
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=200,
        runtime=5,
    message:
        "the layers of each model"
    shell:
        'for table in {input:q}; do echo "$table"; cat "$table"; done 2>&1 | tee {log:q}'
