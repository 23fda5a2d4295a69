"""Files are there as a whole or not at all."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.files import is_json, remove_partial, written_whole


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path):
    file = tmp_path / "case.nii.gz"
    file.write_text("before")
    with written_whole(file) as partial:
        partial.write_text("after")
        assert partial.name == file.name and file.read_text() == "before"
    assert file.read_text() == "after"
    plain = tmp_path / "plain"
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode, "others may read it as any other file"
    assert set(tmp_path.iterdir()) == {file, plain}


def test_an_exception_leaves_what_was_there(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("before")
    with pytest.raises(KeyboardInterrupt), written_whole(file) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    file = tmp_path / "table.csv"
    with written_whole(file) as one, written_whole(file) as other:
        one.write_text("one")
        other.write_text("other")
        assert one.read_text() == "one"
    assert file.read_text() == "one", "the last to end wins"


def _killed_in_the_middle(file: Path) -> None:
    with written_whole(file) as partial:
        partial.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_writer_leaves_is_no_result_and_can_be_removed(tmp_path):
    (tmp_path / "images").mkdir()
    process = multiprocessing.get_context("fork").Process(
        target=_killed_in_the_middle, args=(tmp_path / "images" / "case.nii.gz",)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (rest,) = (tmp_path / "images").iterdir()
    assert rest.is_dir() and rest.name.startswith(".")
    with written_whole(tmp_path / "images" / "case.nii.gz") as partial:
        partial.write_text("all")
    remove_partial(tmp_path)  # of which others may have the folders inside
    assert len(list((tmp_path / "images").iterdir())) == 2
    remove_partial(tmp_path, tmp_path / "images")
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["case.nii.gz"]


def test_a_file_is_cut_off_only_if_it_was_read(tmp_path, monkeypatch):
    file = tmp_path / "splits_final.json"
    assert not is_json(file)
    file.write_text('[{"train": ')
    assert not is_json(file)
    file.write_text("[]", encoding="utf-8-sig")
    assert is_json(file)

    def fail(*arguments, **options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", fail)
    with pytest.raises(UserError, match=r"splits_final\.json cannot be read \(Input/output error\)"):
        is_json(file)
