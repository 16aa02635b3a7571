import json
import os
import subprocess

import pytest

from selfimprove.fsio import (
    MANIFEST,
    final_name,
    folder_digest,
    new_folder,
    sha256,
    temporary_for,
    write_json,
    write_text,
)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "adapter"
    with pytest.raises(RuntimeError), new_folder(target) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as folder:
        (folder / "a").write_text("x")
    assert sorted(p.name for p in target.iterdir()) == [MANIFEST, "a"]
    assert json.loads((target / MANIFEST).read_text())["a"] == {"bytes": 1, "sha256": sha256(target / "a")}


def test_what_is_in_the_way_of_the_temporary_name_is_removed_and_a_link_is_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("x")
    for name in ("f", "t"):
        (tmp_path / f".tmp-{os.getpid()}-{name}").symlink_to(tmp_path / "mine")
    with new_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("x")
    write_text(tmp_path / "t", "one")
    (tmp_path / f".tmp-{os.getpid()}-t").mkdir()
    write_text(tmp_path / "t", "two")
    assert (tmp_path / "t").read_text() == "two"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "mine", "t"]
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["kept"]


def test_two_processes_write_one_file_without_touching_each_others_half(tmp_path):
    """`report` twice at once: one published the other's half, the other found its temporary file gone."""
    with subprocess.Popen(["sleep", "60"]) as other:
        theirs = tmp_path / f".tmp-{other.pid}-t[1]"
        theirs.write_text("half")
        write_text(tmp_path / "t[1]", "mine")
        assert (theirs.read_text(), (tmp_path / "t[1]").read_text()) == ("half", "mine")
        other.kill()
    write_text(tmp_path / "t[1]", "mine again")
    assert [p.name for p in tmp_path.iterdir()] == ["t[1]"], "what a killed process left is swept"


def test_a_message_names_the_file_that_was_to_be_written(tmp_path):
    assert final_name(temporary_for(tmp_path / "12-t")) == tmp_path / "12-t"


def test_a_folder_replaces_the_one_before(tmp_path):
    for content in ("old", "new"):
        with new_folder(tmp_path / "f") as folder:
            (folder / "a").write_text(content)
    assert (tmp_path / "f" / "a").read_text() == "new"


def test_the_digest_sees_names_and_contents_but_not_the_manifest(tmp_path):
    with new_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("x")
    before = folder_digest(tmp_path / "f")
    (tmp_path / "f" / MANIFEST).unlink()
    assert folder_digest(tmp_path / "f") == before
    (tmp_path / "f" / "a").write_text("y")
    assert folder_digest(tmp_path / "f") != before


def test_files_are_replaced_and_leave_nothing_behind(tmp_path):
    write_text(tmp_path / "t", "one")
    write_text(tmp_path / "t", "two")
    assert (tmp_path / "t").read_text() == "two"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "j", float("nan"))
    assert [p.name for p in tmp_path.iterdir()] == ["t"]
