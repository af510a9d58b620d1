"""Files that appear whole or not at all, and never over another."""

import errno
import os

import pytest

from comfyclient.errors import OutputExists, TransferError
from comfyclient.files import PartFile, make_folders, writing
from comfyclient.names import alternatives


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_has_no_name_until_it_is_whole(tmp_path):
    part = PartFile(tmp_path)
    part.write(b"one ")
    part.write(b"two")
    assert all(name.endswith(".part") for name in names(tmp_path))
    assert part.place(["a.txt"], overwrite=False) == tmp_path / "a.txt"
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"one two"
    part.discard()
    assert names(tmp_path) == ["a.txt"]


def test_discarded_it_leaves_nothing(tmp_path):
    part = PartFile(tmp_path)
    part.write(b"x")
    part.discard()
    part.discard()
    assert names(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_taken_name_is_left_alone(tmp_path, monkeypatch, links):
    if not links:  # as on FAT and some network drives
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no links")))
    (tmp_path / "a.txt").write_text("first")
    part = PartFile(tmp_path)
    part.write(b"second")
    with pytest.raises(OutputExists):
        part.place(["a.txt"], overwrite=False)
    part.discard()
    part = PartFile(tmp_path)
    part.write(b"second")
    assert part.place(alternatives("a.txt"), overwrite=False).name == "a (1).txt"
    part.discard()
    assert (tmp_path / "a.txt").read_text() == "first"
    assert (tmp_path / "a (1).txt").read_text() == "second"
    assert names(tmp_path) == ["a (1).txt", "a.txt"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.ENOENT])
def test_what_has_nothing_to_do_with_links_ends_it(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(number, "no")))
    part = PartFile(tmp_path)
    with pytest.raises(TransferError, match="cannot write"):
        part.place(["a.txt"], overwrite=False)
    part.discard()
    assert names(tmp_path) == []


def test_without_links_it_is_whole_or_not_there_either(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOTSUP, "no links")))
    part = PartFile(tmp_path)
    part.path.unlink()  # so that there is nothing to put in place
    with pytest.raises(TransferError, match="cannot write"):
        part.place(["a.txt"], overwrite=False)
    part.discard()
    assert names(tmp_path) == []


def test_begun_anew_it_holds_nothing_of_before(tmp_path):
    part = PartFile(tmp_path)
    part.write(b"much of the old")
    part.restart()
    part.write(b"new")
    assert part.place(["a.txt"], overwrite=False).read_bytes() == b"new"


def test_what_the_disk_says_only_at_the_end_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    part = PartFile(tmp_path)
    part.write(b"x")
    with pytest.raises(TransferError, match="no space left"):
        part.place(["a.txt"], overwrite=False)
    part.discard()
    assert names(tmp_path) == []


def test_a_disk_that_cannot_be_asked_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EINVAL, "no such thing")))
    part = PartFile(tmp_path)
    part.write(b"x")
    assert part.place(["a.txt"], overwrite=False).read_bytes() == b"x"


def test_a_name_that_is_a_dangling_symlink_is_taken(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "elsewhere")
    part = PartFile(tmp_path)
    assert part.place(alternatives("a.txt"), overwrite=False).name == "a (1).txt"
    assert not (tmp_path / "elsewhere").exists()


def test_overwriting(tmp_path):
    (tmp_path / "a.txt").write_text("first")
    part = PartFile(tmp_path)
    part.write(b"second")
    part.place(["a.txt"], overwrite=True)
    assert (tmp_path / "a.txt").read_text() == "second"


def test_folders_are_made_and_symlinks_below_the_root_refused(tmp_path):
    assert make_folders(tmp_path / "a" / "b", ("c", "d")) == tmp_path / "a" / "b" / "c" / "d"
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)
    assert make_folders(tmp_path / "link", ("b",)).is_dir()  # the user's own choice
    with pytest.raises(TransferError, match="symlink"):
        make_folders(tmp_path, ("link", "new"))
    assert not (tmp_path / "a" / "new").exists()


@pytest.mark.parametrize(
    ("number", "words", "hint"),
    [(errno.ENOSPC, "no space left", "make room"), (errno.EACCES, "permission denied", "choose a folder"),
     (errno.EROFS, "read-only", None)],
)  # fmt: skip
def test_what_the_system_refuses_is_one_line(tmp_path, number, words, hint):
    with pytest.raises(TransferError) as caught, writing(tmp_path / "x.png"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "x.png") in str(caught.value)
    assert words in str(caught.value)
    assert (hint is None) == (caught.value.hint is None)
    assert hint is None or hint in caught.value.hint
    assert "\n" not in str(caught.value)
