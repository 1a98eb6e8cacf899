# From icefall checkpoints to folders that sherpa-ncnn runs. Start with README.md.

from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/inspect.smk"
include: "rules/trace.smk"
include: "rules/convert.smk"
include: "rules/verify.smk"
include: "rules/deliver.smk"
include: "rules/transcribe.smk"


rule all:
    default_target: True
    input:
        artifacts(),
    message:
        "everything that the configuration asks for is there"


onsuccess:
    shell("python -m workflow_scripts.summarize --results results {MODELS:q}")
