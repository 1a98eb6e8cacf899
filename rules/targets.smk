# Targets that nothing makes. Snakemake would refuse them too, but knows nothing of models.

from snakemake.cli import get_argument_parser

from transducer2ncnn.workflow import targets

if workflow.is_main_process and COMMANDED:
    # Snakemake hands them out when the rules are read.
    for target in get_argument_parser().parse_args(sys.argv[1:]).targets:
        # Where results are in a storage, rules make addresses in it.
        file = workflow.modifier.path_modifier.apply_default_storage(target)
        made = any(target == known.name or known.is_producer(file) for known in workflow.rules)
        # Snakemake takes a file that is there for itself.
        if not made and (target.startswith("results") or not Path(target).is_file()):
            # Without the folders, which are rules as well.
            names = [known.name for known in workflow.rules if not known.has_wildcards()]
            refuse(targets.explain(target, CONFIG, [name for name in names if "/" not in name]))
