"""In a checkout, points to the top-level folder ``trainers``; a wheel has that folder in this one's place."""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "trainers")]
