"""Base of the parts of a study file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""The range of NumPy's generators."""


class Section(BaseModel):
    """A frozen part of the study file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def key_names(cls) -> list[str]:
        """Keys of the section in a file."""
        return list(cls.model_fields)
