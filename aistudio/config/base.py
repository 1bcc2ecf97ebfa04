"""The base of all settings."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys refused; no number is infinite or none (JSON could not hold it)."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False)


def _each_positive(k: list[int]) -> list[int]:
    if not k or any(x < 1 for x in k):
        raise ValueError("needs at least one K, each 1 or more")
    return sorted(set(k))


Cutoffs = Annotated[list[int], AfterValidator(_each_positive)]  # K of metrics at K: sorted, each once
Value = str | int | float | bool  # of a column, in a filter
