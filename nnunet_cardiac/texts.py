"""Reading and writing texts and tables that others have written, or will open."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import written_whole

if TYPE_CHECKING:
    import pandas as pd

LARGEST_TEXT = 100_000_000
"""Bytes of a text or table; a larger file is something else."""
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


def read_json(file: Path, kind: type = dict) -> Any:
    """What a JSON file holds.

    Args:
        file: to read
        kind: that its content must be of

    Raises:
        UserError: the file cannot be read, or holds something else
    """
    try:
        content = json.loads(read_text(file, "utf-8"))  # nnU-Net reads no byte order mark
    except (ValueError, RecursionError) as e:
        raise UserError(f"{file} is damaged, it is no JSON ({reason(e)}): get it again.") from e
    if not isinstance(content, kind):
        raise UserError(f"{file} holds a {type(content).__name__} where a {kind.__name__} was expected: get it again.")
    return content


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
