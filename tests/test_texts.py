"""Texts and tables that are none."""

import math
from typing import TypedDict

import pytest

from nnunet_cardiac.environment import read_splits
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.texts import meant, misfit, plain, read_json, read_rows, read_text


@pytest.mark.parametrize(
    "content, because",
    [
        (b"{", "is damaged, it is no JSON"),
        (b"[" * 100_000, "is damaged, it is no JSON"),
        (b"\xff\xfe{\0}\0", "cannot be read as text"),
        (b"[]", "holds a list where a dict was expected"),
        (b"", "is damaged, it is no JSON"),
        (b"\xef\xbb\xbf{}", "is damaged, it is no JSON .Unexpected UTF-8 BOM"),
    ],
)
def test_what_is_no_json_is_named(tmp_path, content, because):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=f"x.json {because}"):
        read_json(tmp_path / "x.json")


class More(TypedDict, total=False):
    b: dict[str, list[float]]


class Record(More):
    a: int | None


@pytest.mark.parametrize(
    "content, because",
    [
        ({"a": 1, "b": {"x": [1, 2.5, math.nan]}, "c": "others' own"}, ""),
        ({"a": None}, ""),
        ({}, "no a"),
        ({"a": True}, "true or false in a where a whole number was expected"),
        ({"a": 2**63}, "too large a number in a"),
        ({"a": 1, "b": {"x": [1, "\x1b"]}}, "a text in b.x.1 where a number was expected"),
        ({"a": 1, "b": [[1.0]]}, "a list in b where a dict was expected"),
    ],
)
def test_what_is_not_of_a_type_is_named(content, because):
    assert misfit(content, Record) == because


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="x.json cannot be read .No such file"):
        read_json(tmp_path / "x.json")


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbfa\n1\n")
    assert read_rows(tmp_path / "x.csv") == [{"a": "1"}]


def test_large_files_are_no_texts(tmp_path, monkeypatch):
    monkeypatch.setattr("nnunet_cardiac.texts.LARGEST_TEXT", 3)
    (tmp_path / "x").write_text("text")
    with pytest.raises(UserError, match="it is no text"):
        read_text(tmp_path / "x")


@pytest.mark.parametrize("content", [b"case\n" + b"a" * 200_000, b"\xff\xfe", b'case\n"a" b\n'])
def test_what_is_no_table_is_named(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(UserError, match="x.csv cannot be read as"):
        read_rows(tmp_path / "x.csv")


def test_rows_are_as_long_as_the_header_and_print(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"case,group\na\n\0b,c,d\n")
    assert read_rows(tmp_path / "x.csv") == [{"case": "a", "group": ""}, {"case": " b", "group": "c"}]


@pytest.mark.parametrize(
    "content", ["[]", '["a"]', '[{"train": ["a"]}]', '[{"train": ["a"], "val": "b"}]', '[{"train": [1], "val": ["b"]}]']
)
def test_what_are_no_folds_is_named(tmp_path, content):
    (tmp_path / "splits_final.json").write_text(content)
    with pytest.raises(UserError, match="splits_final.json holds .+: convert or plan again"):
        read_splits(tmp_path / "splits_final.json")


@pytest.mark.parametrize("text", ["+0.536", "-3", "-1.5e-05", "+0.524 to +0.547", "-0.1 ± 0.2", "-", "-, 0.84", "LV"])
def test_numbers_with_a_sign_are_no_formulas(text):
    assert plain(text) == text


@pytest.mark.parametrize("text", ["=cmd()", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "+0.5 to =A1", "--1"])
def test_formulas_are_shown_and_not_computed(text):
    assert plain(text) == f"'{text}" and meant(plain(text)) == text


@pytest.mark.parametrize("text", ["", "'", "'quoted'", "patient001", "-", "'-3"])
def test_other_texts_stay_as_they_are(text):
    assert meant(plain(text)) == meant(text) == text
