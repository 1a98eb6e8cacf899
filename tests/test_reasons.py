"""What a plan says of why it makes again what is there."""

from __future__ import annotations

import json

from transducer2ncnn.workflow.reasons import CODE, LISTED, Stale, lines


def stale(message: str = "m: verifying", **more: object) -> Stale:
    return Stale(message, **{"params": {}} | more)


def why(**more: object) -> str:
    first, said = lines([stale(**more)])
    assert first == "What is made again, and what changed:"
    return said.removeprefix("  m: verifying: ")


def test_a_changed_parameter_is_named_and_the_key_in_it() -> None:
    old, new = ({"min_agreement": x, "max_token_edits": 0.05} for x in (0.9, 0.5))
    params = {"limits": json.dumps(new), "precision": "int8", "code": "abc"}
    changed = {"before": {repr(json.dumps(old))}, "now": {repr(json.dumps(new))}}
    assert why(params=params, **changed) == "limits.min_agreement"
    # Of what has no keys, the name is all that there is to say.
    params = {"lengths": [9, 10], "segments": 51}
    assert why(params=params, before={"50"}, now={"51"}) == "segments"
    assert why(params=params, before={"8"}, now={"10"}) == "lengths"
    assert why(params={"code": "abc"}, before={"'def'"}, now={"'abc'"}) == CODE
    assert why(params={}, before={"'gone'"}) == "a parameter that it no longer has"


def test_other_reasons_are_said_and_missing_files_are_none() -> None:
    assert why(newer={"tokens.txt"}, other_files=True) == "tokens.txt is newer, other input files"
    assert list(lines([stale()])) == []


def test_of_many_the_first_are_listed() -> None:
    *_, last = lines(stale(f"m{i}: x", newer={"a"}) for i in range(LISTED + 3))
    assert last.startswith("  … and 3 more;")
