"""Files that are there as a whole or not at all, and those that a kill has cut off."""

import json
import os
from collections.abc import Callable
from pathlib import Path


def write_whole(file: Path, write: Callable[..., object], **options) -> None:
    """Writes a file, which is there as a whole or not at all.

    Args:
        file: to write
        write: is given another file in the same folder, which then takes its place, and ``options``
    """
    partial = file.with_name(f"partial_{file.name}")
    write(partial, **options)
    os.replace(partial, file)


def write_json(content: object, file: Path) -> None:
    """Writes a whole file."""
    write_whole(file, lambda partial: partial.write_text(json.dumps(content, indent=4), encoding="utf-8"))


def set_aside(file: Path, why: str) -> None:
    """Renames a file that cannot be used, so that it is made again; says so."""
    file.replace(file.with_name(f"{file.name}.unreadable"))
    print(f"{file} cannot be read ({why}) and was set aside as {file.name}.unreadable.")


def is_json(file: Path) -> bool:
    """Whether a file is there and whole."""
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
