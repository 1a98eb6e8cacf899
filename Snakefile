# From icefall checkpoints to folders that sherpa-ncnn runs. Start with README.md.

from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/source.smk"
include: "rules/inspect.smk"
include: "rules/trace.smk"
include: "rules/convert.smk"
include: "rules/verify.smk"
include: "rules/deliver.smk"
include: "rules/transcribe.smk"
include: "rules/manifest.smk"


if CONFIG.precisions.int8:

    include: "rules/int8.smk"


include: "rules/evaluate.smk"
include: "rules/report.smk"
include: "rules/folders.smk"


onsuccess:
    summarize()


onerror:
    summarize()


rule all:
    default_target: True
    input:
        [
            artifact
            for name, model in CONFIG.models.items()
            if not model.on_request
            for artifact in artifacts_of(name)
        ],
    message:
        "everything that the configuration asks for is there"
