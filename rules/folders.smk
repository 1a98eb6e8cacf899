# Folders as targets: a model's results, and each folder that sherpa-ncnn runs. Their files are
# what the rules make, so that each can be asked for; the folder stands for all of them.

FOLDERS = {}
for folder, files in folders():
    # With and without the slash that a shell's completion leaves.
    for target in (folder, f"{folder}/"):

        rule:
            name:
                target
            input:
                files,
            localrule: True
            message:
                "all of {rule}"

    # By whatever name: a workflow that this one is a module of may give it another.
    FOLDERS[folder] = list(workflow.rules)[-1]
