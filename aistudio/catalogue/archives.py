"""What readers of archives share: members, their names, and samples: the members that one picture's data consist of.

As WebDataset has it, a sample's members have the same path up to the first dot of the file's name (`a/12.jpg`,
`a/12.txt`, `a/12.json`); what follows the dot, lower case, is the member's ending. Nothing is unpacked to a disk.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from aistudio.catalogue.table import storable

MAX_MEMBERS = 1000  # of a sample
_MAX_NAME = 1000  # characters


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    at: int  # byte of the archive at which the data (tar) or the local header (zip) begins
    num_bytes: int  # as stored
    size: int  # unpacked, as the archive says
    problem: str | None = None  # why it cannot be used


class Damage(NamedTuple):
    """Where an archive can be read no further."""

    reason: str


class Archive(Protocol):
    """An open archive."""

    def members(self) -> Iterator[Member | Damage]:
        """Yield the files, folders left out, in the archive's order; raises nothing for any content."""

    def read(self, member: Member, limit: int) -> bytes:
        """Return a member's bytes, at most `limit`. Raises ValueError that says why not."""


@dataclass
class Sample:
    """Members of one key, by ending."""

    key: str  # with the folder
    folder: str
    members: dict[str, Member] = field(default_factory=dict)
    problem: str | None = None

    def add(self, ending: str, member: Member) -> None:
        """Take a member; one of the same name, or one that cannot be used, spoils the sample."""
        if ending in self.members:
            self.problem = self.problem or f"duplicate member: {storable(member.name)}"
        elif len(self.members) >= MAX_MEMBERS:
            self.problem = self.problem or f"more than {MAX_MEMBERS} members of one name"
        else:
            self.members[ending] = member
        if member.problem is not None:
            self.problem = self.problem or f"{member.problem}: {storable(member.name)[:200]}"


def name_problem(name: str) -> str | None:
    """Why a member's name is not accepted; None for a good one."""
    if not name:
        return "the member has no name"
    if storable(name) != name:
        return "the member's name is not valid text"
    if len(name) > _MAX_NAME:
        return f"the member's name has more than {_MAX_NAME:,} characters"
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        return "the member's name climbs out of the archive"
    return None


def split_name(name: str) -> tuple[str, str, str]:
    """Return folder, stem and ending of a member: `a/12.seg.png` gives a, 12 and seg.png."""
    folder, _, base = name.removeprefix("./").rpartition("/")
    stem, _, ending = base.partition(".")
    return folder, stem, ending.lower()


def samples_in_order(members: Iterable[Member | Damage]) -> Iterator[Sample | Damage]:
    """Samples of an archive whose members of one key follow each other."""
    current: Sample | None = None
    for member in members:
        if isinstance(member, Damage):
            if current is not None:
                yield current
            yield member
            return
        if (place := _place(member)) is None:
            continue
        key, folder, ending = place
        if current is None or current.key != key:
            if current is not None:
                yield current
            current = Sample(key, folder)
        current.add(ending, member)
    if current is not None:
        yield current


def samples_gathered(members: Iterable[Member | Damage]) -> Iterator[Sample | Damage]:
    """Samples of an archive whose members may stand in any order, by their first member."""
    found: dict[str, Sample] = {}
    damage: list[Damage] = []
    for member in members:
        if isinstance(member, Damage):
            damage.append(member)
        elif (place := _place(member)) is not None:
            key, folder, ending = place
            found.setdefault(key, Sample(key, folder)).add(ending, member)
    yield from found.values()
    yield from damage


def _place(member: Member) -> tuple[str, str, str] | None:
    """Key, folder and ending; None for what is passed over, as in a folder of images: hidden files, those of Macs."""
    folder, stem, ending = split_name(member.name)
    parts = folder.split("/")
    if member.problem is None and (not stem or any(p.startswith(".") for p in parts if p) or "__MACOSX" in parts):
        return None
    return f"{folder}/{stem}" if folder else stem, folder, ending
