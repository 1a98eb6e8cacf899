# Parameters that change with what Snakemake does not see: the code behind a rule, and templates.

import hashlib

from transducer2ncnn.workflow.staleness import PARSED, code_digest

PARSED.keep_in(Path(".snakemake", "parsed.json"))

# Whether what does not depend on who makes it is shared with other runs. A rule that said so
# without --cache would be warned of in every run. All that a cached rule's wildcards change must be
# in its params: Snakemake's hash leaves out the wildcards, and the command as it is run.
CACHING = workflow.workflow_settings.cache is not None


# Once a family: the models may be many.
cached_digest = functools.cache(code_digest)


def code(script, *distributions):
    """A rule's parameter that changes with the code behind the rule, the model's family included."""
    path = f"workflow_scripts/{script}.py"
    return lambda wildcards: cached_digest(path, *distributions, family=model_of(wildcards).family)


def digest(*patterns):
    """The same for files of the project that are not Python's."""
    files = [f for pattern in patterns for f in sorted(ROOT.glob(pattern))]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]
