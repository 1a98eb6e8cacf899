"""The rules' scripts: each is run by itself, as ``python -m workflow_scripts.<name>``."""

import gc
import os

from transducer2ncnn.base import errors

# Before a script loads anything that takes long.
errors.end_quietly_when_interrupted()
# Not while modules are loaded: of what they create, hardly anything is ever garbage, and looking
# for it is a sixth of the time that PyTorch takes to load. ``errors.run`` turns it on.
gc.disable()
# numpy starts its threads when it is loaded. Nothing here needs them, and a process that has any
# cannot be forked (``isolated``).
os.environ["OPENBLAS_NUM_THREADS"] = "1"
