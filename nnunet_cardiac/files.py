"""Files that are there as a whole or not at all, and those that a kill has cut off."""

import json
import os
from pathlib import Path


def write_json(content: object, file: Path) -> None:
    """Replaces a file in one step."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=4), encoding="utf-8")
    os.replace(partial, file)


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
