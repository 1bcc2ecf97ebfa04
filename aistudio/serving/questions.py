"""What a request asks: one model for the API's JSON and for the page's address, which can be shared."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationError

from aistudio.search.held import Condition, Range
from aistudio.serving.errors import Refused
from aistudio.storable import storable_text

MOST_NAME = 10_000
INT64 = 2**63


def _storable(text: str) -> str:
    """Without lone surrogates and NUL, which neither a tokenizer nor an answer can hold."""
    return storable_text(text, MOST_NAME)


Name = Annotated[str, Field(max_length=MOST_NAME), AfterValidator(_storable)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-INT64, lt=INT64, strict=True)]
Scalar = StrictBool | Whole | Number | Name


class Between(BaseModel):
    """A range of numbers, both ends included; null: no limit."""

    model_config = ConfigDict(extra="forbid")
    min: Number | None = None
    max: Number | None = None


class Question(BaseModel):
    """A search: with a text, a stored row or item, an uploaded photograph, a picture's address, or several of them.

    A picture and a text together ask a composer for the picture as the text changes it, any other model for what is
    like both, by their weights.
    """

    model_config = ConfigDict(extra="forbid")
    index: Name | None = Field(None, description="which run and model, as /v1/runs names them; null: the first")
    text: Name | None = None
    row_id: Name | None = None
    item_id: Name | None = None
    photo: Name | None = Field(None, description="name that /v1/photos gave")
    image_url: Name | None = Field(None, description="http or https address of a picture on the open internet")
    vector: list[Number] | None = Field(None, max_length=65_536, description="of the model, of any length")
    text_weight: Annotated[float, Field(ge=0, le=100)] = 1.0
    picture_weight: Annotated[float, Field(ge=0, le=100)] = 1.0
    where: dict[Name, Scalar | list[Scalar] | Between] = Field({}, max_length=50)
    per: Literal["item", "row"] = "item"
    leave_out: list[Literal["item", "row", "copies"]] = ["item", "copies"]
    diversify: dict[Name, Annotated[int, Field(ge=1, le=10_000)]] = Field({}, max_length=10)
    top_n: Annotated[int, Field(ge=1, le=10_000)] = 20
    offset: Annotated[int, Field(ge=0, le=10_000)] = 0
    columns: list[Name] | None = Field(None, max_length=1_000, description="stored columns of the results; null: all")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to ask with."""
        given = (self.text and self.text.strip(), self.row_id, self.item_id, self.photo, self.image_url, self.vector)
        return not any(given)

    def conditions(self) -> dict[str, Condition]:
        """Return the filters as the searcher takes them."""
        return {
            column: Range(wanted.min, wanted.max) if isinstance(wanted, Between) else wanted
            for column, wanted in self.where.items()
        }


PLAIN = {"text": "text", "row": "row_id", "item": "item_id", "photo": "photo", "url": "image_url"}
WEIGHTS = {"wt": "text_weight", "wp": "picture_weight"}


def from_address(pairs: Iterable[tuple[str, str]], per_page: int) -> tuple[Question, list[str]]:
    """Read a page's query: the question, and the indexes it is put to.

    text, row, item, photo, url; wt and wp (weights); in (an index, may be repeated); per; n (results), page (from 1);
    keep (of item, row, copies: not left out); is.COLUMN (value, may be repeated), min.COLUMN, max.COLUMN. Empty ones
    say nothing, others are refused.

    Raises:
        Refused: 422, with the reason.
    """
    data: dict[str, Any] = {"where": {}}
    indexes: list[str] = []
    page, num, keep = 1, per_page, set[str]()
    for name, value in pairs:
        if not value:
            continue
        if name in PLAIN or name in WEIGHTS:
            data[PLAIN.get(name) or WEIGHTS[name]] = value
        elif name == "in":
            indexes.append(value)
        elif name == "per":
            data["per"] = value
        elif name == "keep":
            keep.add(value)
        elif name in ("page", "n"):
            page, num = (_whole(name, value), num) if name == "page" else (page, _whole(name, value))
        elif name.startswith("is."):
            data["where"].setdefault(name[3:], []).append(value)
        elif name.startswith(("min.", "max.")):
            data["where"].setdefault(name[4:], {})[name[:3]] = value
    try:
        data["leave_out"] = [one for one in ("item", "copies") if one not in keep]
        data |= {"top_n": num, "offset": (page - 1) * num}
        return Question.model_validate(data), indexes[:2]
    except (ValidationError, AttributeError, TypeError) as e:
        raise Refused(422, f"this address asks nothing that can be answered: {_first(e)}") from None


def _whole(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= 10_000:
        raise Refused(422, f"{name}: expected a whole number from 1 to 10,000")
    return int(value[:9])


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "a column has both a value and a range"
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def to_address(pairs: Iterable[tuple[str, str]], changed: Mapping[str, str | None]) -> str:
    """Return a query with some parameters replaced (None: removed); `page` starts anew unless it is given."""
    dropped = {"page", *changed}
    kept = [(name, value) for name, value in pairs if value and name not in dropped]
    kept += [(name, value) for name, value in changed.items() if value is not None]
    return "?" + urlencode(kept, errors="replace")
