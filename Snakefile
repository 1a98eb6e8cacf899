# From icefall checkpoints to folders that sherpa-ncnn runs. Start with README.md.

from snakemake.utils import min_version

min_version("9.0")


include: "rules/read.smk"
include: "rules/configured.smk"
include: "rules/staleness.smk"
include: "rules/names.smk"
include: "rules/inputs.smk"
include: "rules/wanted.smk"
include: "rules/resources.smk"
include: "rules/check.smk"
include: "rules/source.smk"
include: "rules/inspect.smk"
include: "rules/trace.smk"
include: "rules/convert.smk"
include: "rules/verify.smk"
include: "rules/quantize.smk"
include: "rules/search.smk"
include: "rules/deliver.smk"
include: "rules/transcribe.smk"
include: "rules/devices.smk"
include: "rules/manifest.smk"
include: "rules/evaluate.smk"
include: "rules/rule_graph.smk"
include: "rules/report.smk"
include: "rules/released.smk"
include: "rules/release.smk"
include: "rules/folders.smk"
include: "rules/summary.smk"
include: "rules/list.smk"


onsuccess:
    summarize()
    timers.cancel()


onerror:
    forget_failed()
    summarize()
    timers.cancel()


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
        "everything that the configuration asks for"


include: "rules/targets.smk"
