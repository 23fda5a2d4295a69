"""The documentation's tables say what the records say, its links lead somewhere, its pages are found."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.fixture(scope="module")
def make_docs():
    """The script behind ``make docs``."""
    specification = importlib.util.spec_from_file_location("make_docs", ROOT / "docs" / "make_docs.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_tables_of_names_are_those_of_the_records(make_docs):
    tables = list(make_docs.names())
    assert {name for _, name, _ in tables} == {"architectures", "contenders"}
    for page, name, table in tables:
        text = (ROOT / page).read_text()
        assert make_docs.filled(text, name, table) == text, f"{page} is out of date: make docs"


def test_a_table_without_a_place_is_noticed(make_docs):
    page = "before\n<!-- one: written by make docs -->\nold\n<!-- end -->\nafter\n"
    assert make_docs.filled(page, "one", "new") == page.replace("old", "new")
    with pytest.raises(ValueError, match="0 places for the table 'two'"):
        make_docs.filled(page, "two", "new")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(
        r"\]\((?!<?https?:|mailto:)([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    ):
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert heading in anchors, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_is_wrapped(page):
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S).splitlines()
    assert [line for line in prose if len(line) > 120 and not line.lstrip().startswith("|")] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
