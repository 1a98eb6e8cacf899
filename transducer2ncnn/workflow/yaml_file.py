"""A configuration file's YAML, checked before Snakemake reads it: it says less of what is wrong."""

from __future__ import annotations

from pathlib import Path

import yaml

from transducer2ncnn.base import inputs
from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.reading import parse_json

#: What a file holds whose keys Snakemake makes by rules, two of which may look alike.
TEMPLATE = "__use_yte__"


def check(path: str | Path) -> None:
    """Refuse a file that is no YAML with keys at its top, or has a key twice.

    Raises:
        UserError: naming the file and the line.
    """
    try:
        inputs.check(path)
        text = Path(path).read_text(encoding="utf-8")
        if _is_json(text):
            return
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except UserError as e:
        raise UserError(f"{e}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8. Expected YAML.") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply.") from None
    except yaml.YAMLError as e:
        raise UserError(f"{path}{_where(e)}.") from None
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}: expected keys and values, such as `models:`, at its top.")
    if TEMPLATE not in text:
        _check_keys(path, node)


def _is_json(text: str) -> bool:
    """Whether Snakemake will take it for JSON, which may hold tabs."""
    try:
        return isinstance(parse_json(text), dict)
    except ValueError:
        return False


def _where(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f": is no YAML ({' '.join(str(error).split())})"
    mark = error.problem_mark
    said = f", line {mark.line + 1}, column {mark.column + 1}: is no YAML: {error.problem}"
    if "'\\t'" in str(error.problem):
        said += ". Indent with blanks, not with tabs"
    if error.context and error.context_mark:
        said += f" ({error.context} that starts in line {error.context_mark.line + 1})"
    return said


def _check_keys(path: str | Path, top: yaml.Node) -> None:
    waiting, seen = [top], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                waiting.append(value)
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and key.value in lines and key.value != "<<":
                    raise UserError(
                        f"{path}, line {line}: the key {shown(key.value)!r} is there already, in "
                        f"line {lines[key.value]}, and only one of the two would count."
                    )
                if isinstance(key, yaml.ScalarNode):
                    lines[key.value] = line
