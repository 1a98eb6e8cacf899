"""What every section of the configuration has in common."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _repository(repo_id: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo_id):
        raise ValueError(f"expected <owner>/<name>, as in a model's address; found {repo_id!r}")
    return repo_id


#: A repository on the Hub.
RepoId = Annotated[str, AfterValidator(_repository)]


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no values of other types, no infinity or
    NaN, nothing changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
