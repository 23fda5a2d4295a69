"""Reading and writing texts and tables that others have written, or will open."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import written_whole

if TYPE_CHECKING:
    import pandas as pd

LARGEST_TEXT = 100_000_000
"""Bytes of a text or table; a larger file is something else."""
JSON_TYPES = {
    dict: "a dict", list: "a list", str: "a text", int: "a whole number", float: "a number", bool: "true or false",
    type(None): "null",
}  # fmt: skip
"""In words."""
LINES = "\n\t"
"""What a message of several lines may hold, a table of series for one."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet takes for a formula."""
NUMBERS = re.compile(r"[-+]?[\d.]*(e[-+]?\d+)?(( to | ± |, )[-+]?[\d.]+)?")
"""What begins so and is none: a dash, a number with its sign, or two."""


def read_text(file: Path, encoding: str = "utf-8-sig") -> str:
    """A text in UTF-8, with or without a byte order mark.

    Raises:
        UserError: the file is missing, too large or no text
    """
    try:
        if (size := file.stat().st_size) > LARGEST_TEXT:
            raise UserError(f"{file} has {size / 1e6:.0f} MB: it is no text that is read here.")
        return file.read_text(encoding)
    except OSError as e:
        raise UserError(f"{file} cannot be read ({e.strerror}): check the file.") from e
    except ValueError as e:
        raise UserError(f"{file} cannot be read as text ({reason(e)}): get it again.") from e


def read_json(file: Path, kind: Any = dict, way_out: str = "get it again") -> Any:
    """What a JSON file holds.

    Args:
        file: to read
        kind: that its content must be of, see ``misfit``
        way_out: what to do about a file that holds something else

    Raises:
        UserError: the file cannot be read, or holds something else
    """
    try:
        content = json.loads(read_text(file, "utf-8"))  # nnU-Net reads no byte order mark
    except (ValueError, RecursionError) as e:
        raise UserError(f"{file} is damaged, it is no JSON ({reason(e)}): {way_out}.") from e
    if found := misfit(content, kind):
        raise UserError(f"{file} holds {printable(found):.160}: {way_out}.")
    return content


def misfit(value: Any, kind: Any, where: str = "") -> str:
    """What keeps a value from being of a type, to follow "it holds"; empty where it is of it.

    Args:
        value: that JSON gave
        kind: a class, a union, ``list[...]``, ``dict[str, ...]``, a dataclass or a ``TypedDict``: their fields are
            keys, of which there may be others. A whole number, of 64 bits, is a float too
        where: keys that lead to the value, each with a dot
    """
    wanted, parts = get_origin(kind) or kind, get_args(kind)
    if wanted in (Union, UnionType):
        found = [misfit(value, part, where) for part in parts]
        return found[0] if all(found) else ""
    fields = get_type_hints(kind) if is_typeddict(kind) or is_dataclass(kind) else {}
    wanted = dict if fields else wanted
    place = where and f" in {where[:-1]}"
    if type(value) not in ((int, float) if wanted is float else (wanted,)):
        return f"{JSON_TYPES[type(value)]}{place} where {JSON_TYPES.get(wanted, 'nothing')} was expected"
    if type(value) is int and not -(2**63) <= value < 2**63:
        return f"too large a number{place}"
    if missing := [key for key in getattr(kind, "__required_keys__", ()) if key not in value]:
        return f"no {where}{min(missing)}"
    inside: dict = value if wanted is dict else dict(enumerate(value)) if wanted is list else {}
    kinds = fields or (dict.fromkeys(inside, parts[-1]) if parts else {})
    found = [misfit(inside[key], kinds[key], f"{where}{key}.") for key in kinds if key in inside]
    return next(filter(None, found), "")


def read_record(file: Path) -> dict:
    """What this project's JSON file holds; nothing where it is missing or cannot be read."""
    try:
        return read_json(file)
    except UserError:
        return {}


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by the names of its columns; what a short row lacks is empty, what does not print blank.

    Raises:
        UserError: the file cannot be read as a table
    """
    try:
        rows = list(csv.DictReader(read_text(file).splitlines(keepends=True), restval="", strict=True))
    except csv.Error as e:
        raise UserError(f"{file} cannot be read as a table ({reason(e)}): repair it.") from e
    return [{printable(key): printable(value) for key, value in row.items() if key is not None} for row in rows]


def read_cases(dataset: Path, name: str = "cases.csv") -> list[dict[str, str]]:
    """The rows of a converted data set's ``cases.csv``, with names as files have them."""
    return [{key: meant(value) for key, value in row.items()} for row in read_rows(dataset / name)]


def write_rows(file: Path, table: pd.DataFrame, **options: Any) -> None:
    """Writes a whole table as CSV that a spreadsheet shows as it is: a cell that would be a formula gets an apostrophe.

    Args:
        file: to write
        table: texts may come from file names and headers
        options: of ``DataFrame.to_csv``

    Raises:
        OSError: the file cannot be written
    """
    table = table.copy()
    for column in table.select_dtypes(exclude="number"):
        table[column] = table[column].map(plain)
    table.index = table.index.map(plain)
    with written_whole(file) as partial:
        table.rename(columns=plain).to_csv(partial, **options)


def plain(value: Any) -> Any:
    """A text of one line that no spreadsheet takes for a formula and no terminal for a command; others as they are."""
    if not isinstance(value, str):
        return value
    line = printable(value)
    return f"'{line}" if line.startswith(FORMULA) and not NUMBERS.fullmatch(line) else line


def meant(text: str) -> str:
    """What ``plain`` has made a text of, without its apostrophe."""
    return text[1:] if plain(text[1:]) == text else text


def printable(text: str, more: str = "") -> str:
    """A text in one line, without characters that a terminal would obey; those in ``more`` are left."""
    return "".join(c if c.isprintable() or c in more else " " for c in text)


def message(text: str) -> str:
    """A printable text of which no line but the first begins at the margin: what it quotes cannot pass for another."""
    return printable(text, LINES).replace("\n", "\n  ")


def unforeseen(e: BaseException) -> str:
    """What to tell of an exception that no code expects: its kind and its text."""
    return f"{type(e).__name__}: {reason(e)}"


def reason(e: BaseException) -> str:
    """An exception's text, in one line of at most 160 characters."""
    return printable(" ".join(str(e).split()))[:160] or type(e).__name__
