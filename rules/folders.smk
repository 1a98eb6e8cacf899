# Folders as targets: a model's results, and each folder that sherpa-ncnn runs. Their files are
# what the rules make, so that each can be asked for; the folder stands for all of them.

#: Whether Snakemake's command runs this workflow, whose targets it then names. In another
#: workflow's run, only that one knows its targets.
COMMANDED = (
    Path(sys.argv[0]).name in ("snakemake", "__main__.py")
    and Path(workflow.main_snakefile).resolve() == Path(ROOT, "Snakefile").resolve()
)

#: By model, the rule that stands for all that is made of it.
MADE_OF = {}
for model, folder, files in folders():
    # With and without the slash that a shell's completion leaves.
    for target in (folder, f"{folder}/"):
        # All rules take part in all planning: of many models, those that a run has no use for would
        # take as long as the others together.
        if model in MADE_OF and COMMANDED and not any(target in word for word in sys.argv):
            continue

        rule:
            name:
                target
            input:
                files,
            localrule: True
            message:
                "all of {rule}"

        # By whatever name: a workflow that this one is a module of may give it another.
        MADE_OF.setdefault(model, list(workflow.rules)[-1])
