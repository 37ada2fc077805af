"""Columns that may qualify a coordinate although their names do not say so: what their cells tell of them.

Such a column mentions an axis, stands directly beside a coordinate, or is named after directions or signs. If its cells
are hemispheres, signs or the minutes of whole degrees, no coordinate of the table can be read without it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from data_builders.sources.table_columns import AXIS_NAMES, Columns
from data_builders.sources.table_files import visible
from data_builders.sources.table_hemispheres import hemisphere_in, states_nothing
from data_builders.sources.table_names import AXES, axis_in, pieces
from geotune.tasks.coordinate_reader.words import word_set

_QUADRANT = re.compile("[ns][ewo]", re.IGNORECASE)
_DIGIT = re.compile("[0-9]")
_LONGEST = 40
"""Cells with more characters are neither hemispheres nor numbers."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)")
_COMPASS = word_set(
    "north south east west northern southern eastern western ns ew nors eorw nsew quadrant quad hemi hem hemisphere "
    "sign sgn neg negative pm plusminus dir direction cardinal"
)
_BINARY = word_set("north south east west northern southern eastern western neg negative sign sgn")
_MINUTES = word_set("min mins minute minutes mm arcmin arcminutes sec secs second seconds ss arcsec primes")
_NAMES_OF_AREAS = word_set("country code cc iso iso2 state region province admin lang language label zone area name")
_OTHER_QUANTITIES = word_set(
    "pred predicted prediction guess guessed est estimated std sd stdev sigma var err error errors uncertainty "
    "accuracy precision delta diff difference offset bin bins cell grid mean avg median max maximum span range private "
    "obscured dest destination start end origin computed nearest city id idx index rank count n num"
)
"""Words beside an axis that make a column of numbers something else than a part of the coordinate."""


@lru_cache(maxsize=4096)
def _kind(cell: str) -> str:
    """What a cell may be: blank, N, S, E, W, O, quadrant, +, -, bool, unit (1, 0), -unit, number, or other."""
    cell = visible(cell)
    if _NUMBER.fullmatch(cell):
        number = float(cell.replace(",", "."))
        if number in (0, 1):
            return "unit"
        return "-unit" if number == -1 else "number" if number >= 0 else "other"
    if _DIGIT.search(cell):
        return "other"
    text = cell.lower()
    if text in ("-", "\u2212", "\u2013"):
        return "-"
    if text in ("+", "plus", "minus", "positive", "negative", "pos", "neg"):
        return "+" if text[0] in "+p" else "-"
    if states_nothing(cell) or text in ("--", "\u2014"):
        return "blank"
    if letter := hemisphere_in(cell):
        return letter
    if _QUADRANT.fullmatch(text):
        return "quadrant"
    return "bool" if text in ("true", "false", "yes", "no") else "other"


@dataclass
class BesideColumn:
    """A column whose name does not say what it holds, and the cells that were seen in it."""

    number: int
    name: str
    axis: str | None
    """The axis that its name mentions."""
    beside: str | None
    """The axis of the coordinate directly before it or behind it."""
    follows: str | None = None
    """The axis of the coordinate directly before it."""
    kinds: Counter[str] = field(default_factory=Counter)
    below_60: bool = True
    """Whether every number in it may be minutes."""

    def add(self, cells: Sequence[str]) -> None:
        """Take note of a row."""
        cell = cells[self.number] if self.number < len(cells) else ""
        kind = "other" if len(cell) > _LONGEST else _kind(cell)
        self.kinds[kind] += 1
        if kind == "number" and self.below_60:
            self.below_60 = float(visible(cell).replace(",", ".")) < 60

    @property
    def words(self) -> set[str]:
        """The words of its name."""
        return set(pieces(self.name))

    @property
    def seen(self) -> int:
        """Number of cells that state something."""
        return sum(self.kinds.values()) - self.kinds["blank"]

    def _only(self, *kinds: str) -> bool:
        return self.seen > 0 and sum(self.kinds[kind] for kind in kinds) == self.seen

    @property
    def letters(self) -> set[str]:
        """The hemispheres that its cells name."""
        return {letter for letter in "NSEWO" if self.kinds[letter]}

    def hemisphere_axis(self) -> str | None:
        """The axis whose hemispheres its cells name, if they name those of one axis only."""
        if not self.letters or self.kinds["quadrant"]:
            return None
        return "lat" if self.letters <= set("NS") else "lon" if self.letters <= set("EWO") else None

    def sign_axes(self) -> tuple[str, ...]:
        """The axes whose hemisphere or sign the column seems to hold."""
        compass = _names_directions(self.words)
        if self.axis is not None:
            told = bool(self.letters or self.kinds["quadrant"]) or self._only("+", "-") or self._only("bool")
            told = told or (self._only("unit", "-unit") and (self.kinds["-unit"] > 0 or bool(self.words & _BINARY)))
            return (self.axis,) if told else ()
        nameless = not self.words or "unnamed" in self.words
        signs = self._only("+", "-") and self.kinds["-"] > 0 and (compass or nameless or self.kinds["+"] > 0)
        signs = signs or (self._only("unit", "-unit") and self.kinds["-unit"] > 0 and (compass or nameless))
        if compass and (self.words & _BINARY or self.words <= set("nsew")) and self._only("unit", "-unit", "bool"):
            return AXES
        if signs:
            return AXES if self.beside is None else (self.beside,)
        named = sum(self.kinds[letter] for letter in self.letters)
        if self.hemisphere_axis() and 2 * named >= self.seen and self.letters & set("SWO"):
            return (self.hemisphere_axis() or "",)
        if self._only("quadrant") and not self.words & _NAMES_OF_AREAS:
            return AXES
        return ()

    def holds_minutes(self) -> bool:
        """Whether it may hold a part of the coordinate whose axis it mentions: it holds numbers and nothing else."""
        if self.axis is not None:
            return not self.words & _OTHER_QUANTITIES and self._only("number", "unit")
        return self.below_60 and self._only("number", "unit")


def beside_columns(header: Sequence[str], columns: Columns) -> list[BesideColumn]:
    """The columns of a table that may qualify a coordinate by what their cells hold."""
    roles = {name: axis for axis in AXES for name in getattr(columns, axis).roles(axis).values()}
    known = set(columns.understood) | roles.keys() | set(columns.datums)
    before: dict[int, str] = {}
    behind: dict[int, str] = {}
    for number, name in enumerate(header):
        if name in roles:
            before[number - 1] = roles[name]
            for at in range(number + 1, min(number + 4, len(header))):
                if header[at] in known:
                    break
                behind[at] = roles[name]
    found = []
    for number, name in enumerate(header):
        if name in known:
            continue
        axis = axis_in(name)
        words = set(pieces(name))
        follows = behind.get(number)
        beside = follows or before.get(number)
        if axis or beside or words & _MINUTES or _names_directions(words):
            found.append(BesideColumn(number, name, axis, beside, follows))
    return found


def _names_directions(words: set[str]) -> bool:
    """Whether a column is named after directions or signs."""
    letters = bool(words) and words <= set("nsew")
    return letters or bool(words & _COMPASS) or any(word.startswith("hemi") for word in words)


def question_about(
    found: Sequence[BesideColumn], columns: Columns, whole: Mapping[str, bool]
) -> tuple[str, str] | None:
    """What is wrong with reading a table without one of these columns, and the way out; None if nothing is.

    Args:
        found: The columns, which have seen every row.
        columns: The columns that are read.
        whole: Whether every latitude and every longitude is a whole number of degrees.
    """
    values = {axis: getattr(columns, axis) for axis in AXES}
    free = [axis for axis in AXES if axis not in columns.settled]
    for column in found:
        axes = [axis for axis in column.sign_axes() if axis in free and values[axis].ref is None]
        if axes:
            names = " and ".join(AXIS_NAMES[axis] for axis in axes)
            ways = [f"columns.{axis}={values[axis].value}" for axis in axes]
            settle = " ".join(ways) + (" if that column has its sign" if len(axes) == 1 else " if those have signs")
            if len(axes) == 1 and column.hemisphere_axis() and column.name:
                return (
                    f"the column {column.name} looks like the hemisphere of the {names}",
                    f"say so with columns.{axes[0]}_ref={column.name}, or give {settle}",
                )
            return (
                f"the column {column.name or f'number {column.number + 1}'} looks like the sign of the {names}",
                f"write the sign before the number, or give {settle}",
            )
    part = next((each for each in found if each.axis in free and _is_part(each, columns, whole)), None)
    if part is None and all(whole.values()) and free == list(AXES):
        behind = [each for each in found if each.axis is None and each.holds_minutes() and not _have_minutes(columns)]
        both = {each.follows for each in behind} >= set(AXES)
        part = next((each for each in behind if (both and each.follows) or each.words & _MINUTES), None)
    if part is not None:
        minutes = " ".join(f"columns.{axis}_min=<name>" for axis in AXES)
        degrees = " ".join(f"columns.{axis}={values[axis].value}" for axis in free)
        return (
            f"the coordinates are whole degrees, and the column {part.name or f'number {part.number + 1}'} looks like "
            "minutes or another part of them",
            f"say so with {minutes}, write each coordinate into one column, or give {degrees} if whole degrees are "
            "meant",
        )
    return None


def _is_part(column: BesideColumn, columns: Columns, whole: Mapping[str, bool]) -> bool:
    axis = column.axis
    return axis is not None and whole[axis] and getattr(columns, axis).min is None and column.holds_minutes()


def _have_minutes(columns: Columns) -> bool:
    """Whether the coordinates have minutes of their own, so that further numbers are none."""
    return any(getattr(columns, axis).min is not None for axis in AXES)
