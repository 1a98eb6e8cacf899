# Folders as targets: a model's results, and each folder that sherpa-ncnn runs. Their files are
# what the rules make, so that each can be asked for; the folder stands for all of them.

#: Whether Snakemake's command runs this workflow, whose targets it then names. In another
#: workflow's run, only that one knows its targets.
COMMANDED = (
    Path(sys.argv[0]).name in ("snakemake", "__main__.py")
    and Path(workflow.main_snakefile).resolve() == Path(ROOT, "Snakefile").resolve()
)

for folder, files in folders():
    # With and without the slash that a shell's completion leaves.
    for target in (folder, f"{folder}/"):
        # Snakemake copies the names of all rules for each command and each message: those of many
        # models' folders would take as long as most of a plan.
        if COMMANDED and not any(target in word for word in sys.argv):
            continue

        rule:
            name:
                target
            input:
                files,
            localrule: True
            message:
                "all of {rule}"
