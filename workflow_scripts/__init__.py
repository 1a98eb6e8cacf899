"""The commands of the rules."""

from transducer2ncnn.base import errors

# Before a script loads anything that takes long.
errors.end_quietly_when_interrupted()
