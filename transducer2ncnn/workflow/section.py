"""What every section of the configuration has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no values of other types, nothing changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
