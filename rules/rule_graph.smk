# Which rules make a model, for its report.

#: What makes paths of results those of the rules: they may have a prefix, or be in a storage.
PATHS = workflow.modifier.path_modifier


class RulesOf:
    """The rules that make a model's artifacts, and which depends on which, as JSON.

    Snakemake's own graph (--rulegraph) would take a process with all its modules; that of the run
    itself holds what the run was asked for, which may be one file. A parameter that is found out
    where a command takes it up: planning many models would take a third longer.
    """

    def __init__(self, wildcards):
        self._model = wildcards.model

    @functools.cached_property
    def _found(self):
        rules, edges = rules_behind(artifacts_of(self._model))
        return json.dumps({"rules": sorted(rules), "edges": sorted(edges)})

    def __str__(self):
        # A dry run puts commands together as well, and runs none.
        return "…" if workflow.dryrun else self._found


def rules_behind(files):
    """What makes files: names of rules, and pairs of these."""
    rules, edges, seen = set(), set(), set()
    makers = [rule for rule in workflow.rules if rule.output]

    def follow(files, user=None):
        for file in files:
            maker = next((other for other in makers if other.is_producer(file)), None)
            if maker is None:
                continue
            if user:
                edges.add((maker.name, user.name))
            if file not in seen:
                seen.add(file)
                rules.add(maker.name)
                follow(maker.expand_input(maker.get_wildcards(file))[0], maker)

    follow([PATHS.modify(file, property="input") for file in files])
    return rules, edges
