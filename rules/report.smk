# One page to read about everything that was made of a model.


rule list_rules:
    output:
        "results/{model}/rules.json",
    log:
        "logs/{model}/list_rules.log",
    group:
        "report"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(400),
        runtime=minutes(5),
    params:
        rules=RulesOf,
        # What the rules follow from. Without the other models, so that their changes do not make
        # this one's report stale; nor does how it is published.
        config=lambda wildcards: json.dumps(
            STATED
            | {"models": {wildcards.model: STATED["models"][wildcards.model] | {"release": None}}}
        ),
        workflow=digest("Snakefile", "rules/*.smk"),
        code=code("list_rules"),
    message:
        "{wildcards.model}: listing the rules that make it"
    shell:
        "python -m workflow_scripts.list_rules"
        " --rules {params.rules:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule make_report:
    input:
        unpack(lambda wildcards: reported(wildcards.model)),
        description="results/{model}/model.json",
        rules="results/{model}/rules.json",
    output:
        report(
            "results/{model}/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"model": "{model}"},
        ),
    log:
        "logs/{model}/make_report.log",
    group:
        "report"
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(5, per_minute=0.1, audio_mb=evaluation_mb),
    params:
        options=lambda wildcards, input: " ".join(
            f"--{name} {shlex.join([files] if isinstance(files, str) else files)}"
            for name, files in input.items()
        ),
        templates=digest("transducer2ncnn/report/templates/*"),
        code=code("make_report", "matplotlib", "jinja2"),
    message:
        "{wildcards.model}: making the report"
    shell:
        "python -m workflow_scripts.make_report"
        " --model {wildcards.model:q}"
        " {params.options}"
        " --output {output:q}"
        " > {log:q} 2>&1 && tail -n 1 {log:q}"
