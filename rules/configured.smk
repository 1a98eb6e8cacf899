# The validated configuration, and what it takes to run the project's code from the rules.

import functools
import json
import math
import re
import shlex
import urllib.parse
from dataclasses import asdict, replace

from snakemake.exceptions import WorkflowError

from transducer2ncnn.base.layout import PARTS
from transducer2ncnn.workflow import discovered
from transducer2ncnn.workflow.environment import set_up_scripts, use_large_pages
from transducer2ncnn.workflow.precisions import Auto

set_up_scripts(ROOT)
use_large_pages()

if not config:
    refuse(
        f"there is no configuration: no config.yaml in {Path.cwd()}, and no --configfile. Expected "
        "`models`, the models to export, in one of them, or --config repo_id=<owner>/<name>."
    )


def hub_record(repo_id, revision):
    """Where what is known of a repository at a revision is kept, without an ending."""
    return Path(".snakemake", "hub", urllib.parse.quote(f"{repo_id}@{revision}", safe=""))


@functools.cache
def repository(repo_id, revision):
    """A repository on the Hub, looked up once a run and only if something depends on it."""
    from transducer2ncnn.source import hub

    record = f"{hub_record(repo_id, revision)}.json"
    # A job goes by what the run that it is part of found: all see the same commit, and only the
    # run itself needs the network.
    found = None if workflow.is_main_process else hub.recorded(record)
    return found or hub.resolve(repo_id, revision, record)


try:
    #: The configuration as Snakemake read it and as the rules use it, and what was found of models
    #: that it leaves open.
    STATED, CONFIG, FOUND = discovered.complete(config, repository, hub_record)
    for stating_name, stating in CONFIG.models.items():
        # What is elsewhere is checked when it has arrived.
        if stating.sizes and stating.source != "huggingface" and stating.here():
            # Seldom, so that other runs need not wait for torch.
            from transducer2ncnn.families.model import check_stated

            try:
                check_stated(stating.checkpoints()[0], stating.family, stating.sizes)
            except UserError as e:
                raise UserError(f"models.{stating_name}: {e}") from None
except UserError as e:
    refuse(e)

if workflow.is_main_process:
    print("".join(f"{line}\n" for line in discovered.lines(FOUND)), end="", file=sys.stderr)

#: The precisions by name, whether they are wanted or can be asked for.
PRECISIONS = CONFIG.known_precisions()
#: How each is stored.
RECIPES = {name: precision.to_recipe() for name, precision in PRECISIONS.items()}
#: Those that are compared with fp32, and not with PyTorch.
QUANTIZED = [name for name, how in RECIPES.items() if not how.is_plain]

#: Those whose recipe is found by a search.
SEARCHED = [name for name, precision in PRECISIONS.items() if isinstance(precision, Auto)]


def one_of(names):
    """A wildcard's constraint: one of some names."""
    return "|".join(map(re.escape, names)) or "(?!)"  # which matches nothing


def only(predicate):
    """A constraint for a rule that makes sense for some models only."""
    return one_of(name for name in CONFIG.models if predicate(name))


wildcard_constraints:
    model=one_of(CONFIG.models),
    part=one_of(PARTS),
    precision=one_of(PRECISIONS),


def model_of(wildcards):
    return CONFIG.models[wildcards.model]


def told(function):
    """Let an input function's UserError end the run with its message, and no traceback."""

    @functools.wraps(function)
    def wrapper(*args):
        try:
            return function(*args)
        except UserError as e:
            refuse(e)

    return wrapper


def all_cores(wildcards):
    try:
        return workflow.cores
    except WorkflowError:  # a cluster's jobs may be limited by number instead
        return CONFIG.transcription.threads
