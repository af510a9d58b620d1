"""Signals, and what an emulator of a command's own leaves behind."""

import io
import logging
from pathlib import Path

import pytest

from comfyclient._redact import Secret
from comfyclient.cli.failures import STOPPED
from comfyclient.cli.logs import logging_to
from comfyclient.cli.running import run_async, temporary_folder

from ..cli_support import make_app  # noqa: TID252


def test_a_second_signal_leaves_no_folder_behind(tmp_path):
    seen = []
    app = make_app(tmp_path, leave=lambda code: seen.append((code, folders[0].exists())))
    folders = []

    async def work(interrupts):
        with temporary_folder(interrupts) as folder:
            folders.append(folder)
            (folder / "output").mkdir()
            (folder / "output/picture.png").write_bytes(b"x")
            interrupts.last_words = lambda: ["one", "two"]
            interrupts.handle(2, None)
            interrupts.handle(2, None)
        return 0

    run_async(app, work)
    assert seen == [(STOPPED, False)]
    assert app.stderr.getvalue().startswith("one\ntwo\n")


def test_an_end_without_signals_leaves_no_folder_behind(tmp_path):
    folders = []

    async def work(interrupts):
        with temporary_folder(interrupts) as folder:
            folders.append(folder)
            assert folder.is_dir()
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        run_async(make_app(tmp_path), work)
    assert not folders[0].exists()


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("utf-8", b"caf\xc3\xa9/b\xff.png\n"), ("latin-1", b"caf\xe9/b\\udcff.png\n")],
)
def test_a_path_on_stdout_is_the_files_name(tmp_path, encoding, written):
    raw = io.BytesIO()
    app = make_app(tmp_path, stdout=io.TextIOWrapper(raw, encoding, errors="backslashreplace"))
    app.print_path(Path("caf\xe9/b\udcff.png"))
    app.flush()
    assert raw.getvalue() == written


def test_json_has_no_bytes_that_are_no_text(tmp_path):
    raw = io.BytesIO()
    app = make_app(tmp_path, stdout=io.TextIOWrapper(raw, "utf-8", errors="backslashreplace"))
    app.print_json({"file": "b\udcff"})
    app.flush()
    assert raw.getvalue() == b'{"file":"b\\udcff"}\n'


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ({}, ["warning: w ***"]),
        ({"quiet": True}, ["warning: w ***"]),
        ({"verbosity": 1}, ["warning: w ***", "i"]),
        ({"verbosity": 2}, ["warning: w ***", "i", "d"]),
    ],
)
def test_what_the_library_logs_is_told_as_far_as_it_matters(tmp_path, rest, said):
    app, secret = make_app(tmp_path, **rest), Secret("a-log-secret")
    log = logging.getLogger("comfyclient.auth")
    before = logging.getLogger("comfyclient").level
    with logging_to(app):
        log.warning("w %s", secret.reveal())
        log.info("i")
        log.debug("d")
        logging.getLogger("comfyclient.emulator.core").error("an emulated server's own")
        logging.getLogger("another").error("somebody else's")
    log.warning("after")
    assert app.stderr.getvalue().splitlines() == said
    assert logging.getLogger("comfyclient").level == before
