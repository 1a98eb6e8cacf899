# The configuration files that are read. Those of --configfile stand alone: what they do not say is
# as the defaults have it, and not as the config.yaml has it that lies in the folder.

import sys
from pathlib import Path

#: The project's folder, also where the workflow is a module of another one.
ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
sys.path.insert(0, str(ROOT))

from transducer2ncnn.base.errors import UserError, end_quietly_when_interrupted
from transducer2ncnn.workflow import garbage, streams, yaml_file

garbage.look_seldom()

# In the jobs that are a Snakemake of their own as well.
streams.survive_closed_pipes()
end_quietly_when_interrupted()


def refuse(message):
    """End the run with a message, and nothing of where in the rules it was found."""
    sys.exit(f"error: {message}")


HERE = Path("config.yaml")
GIVEN = list(workflow.overwrite_configfiles or [])

try:
    for path in GIVEN or ([HERE] if HERE.is_file() else []):
        yaml_file.check(path)
except UserError as e:
    refuse(e)

if not GIVEN and HERE.is_file():

    configfile: "config.yaml"
