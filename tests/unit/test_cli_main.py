"""The command itself: help and version stay cheap, and every end becomes a message and an exit code."""

import errno
import io
import json
import os
import subprocess
import sys

import click
import pytest

from comfyclient import __version__, errors
from comfyclient.cli.main import COMMANDS, cli

from ..cli_support import ROOT, make_app, run  # noqa: TID252

HEAVY = {"aiohttp", "websockets", "pydantic", "rich", "asyncio", "yarl", "json", "dataclasses", "pathlib"}


def walk(command=cli, path=()):
    """Every command and group, by its path."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))


class TestStartup:
    @pytest.mark.parametrize("argument", ["--version", "--help"])
    def test_help_and_version_import_nothing_heavy(self, argument):
        code = (
            "import sys, click; before = set(sys.modules)\n"
            "from comfyclient.cli.main import main\n"
            f"code = main([{argument!r}])\n"
            "print(*sorted(set(sys.modules) - before), sep='\\n')\n"
            "sys.exit(code)"
        )
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=python_path()
        )
        imported = {line.partition(".")[0] for line in found.stdout.splitlines()}
        assert not imported & HEAVY
        assert "comfyclient.cli.queue" not in found.stdout

    @pytest.mark.parametrize("name", COMMANDS)
    def test_a_commands_help_imports_nothing_that_runs_it(self, name):
        code = (
            "import sys; from comfyclient.cli.main import main\n"
            f"main([{name!r}, '--help'])\n"
            "print(*sorted(m for m in ('aiohttp', 'pydantic', 'rich', 'asyncio') if m in sys.modules), file=sys.stderr)"
        )
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=python_path()
        )
        assert found.stdout.startswith(f"Usage: comfyclient {name}")
        assert found.stderr.strip() == ""

    def test_as_a_module(self):
        found = subprocess.run(
            [sys.executable, "-m", "comfyclient", "--version"],
            capture_output=True,
            text=True,
            check=True,
            env=python_path(),
        )
        assert found.stdout == f"comfyclient {__version__}\n"


def python_path():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class TestHelp:
    def test_the_table_says_what_the_commands_say(self):
        context = click.Context(cli)
        for name, entry in COMMANDS.items():
            assert cli.get_command(context, name).short_help == entry.help

    @pytest.mark.parametrize("path", [path for path, _ in walk()], ids=" ".join)
    def test_every_command_explains_itself(self, path, capsys, tmp_path):
        command = dict(walk())[path]
        assert run(make_app(tmp_path), *path, "--help").code == 0
        assert run(make_app(tmp_path), *path, "-h").code == 0
        assert " ".join(("Usage: comfyclient", *path)) in capsys.readouterr().out
        assert command.help
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, option.name

    @pytest.mark.parametrize("path", [(), ("jobs",), ("nodes",)])
    def test_a_group_alone_shows_its_help(self, path, capsys, tmp_path):
        assert run(make_app(tmp_path), *path).code == 0
        assert "Commands:" in capsys.readouterr().out

    def test_every_command_that_runs_takes_the_common_options(self):
        for path, command in walk():
            names = {option for parameter in command.params for option in parameter.opts}
            if not isinstance(command, click.Group) and path != ("completion",):
                assert {"--quiet", "--verbose", "--debug"} <= names, path


class TestUsage:
    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["quee"], "there is no command 'quee'; did you mean 'queue'?"),
            (["xyzzy"], "there is no command 'xyzzy'"),
            (["queue"], "missing argument 'WORKFLOW'"),
            (["queue", "x.json", "--nonsense"], "no such option"),
            (["queue", "x.json", "--emulator", "--url", "http://x"], "--emulator and --url exclude each other"),
            (["queue", "x.json", "--emulator", "--no-wait"], "--emulator and --no-wait exclude each other"),
            (
                ["queue", "x.json", "--no-wait", "--resubmit", "lost"],
                "--no-wait and --resubmit lost exclude each other",
            ),
            (["queue", "x.json", "--json", "--events"], "--json and --events exclude each other"),
            (["queue", "x.json", "-n", "0"], "0 is not in the range"),
            (["queue", "x.json", "--timeout", "0"], "0.0 is not in the range"),
            (["queue", "x.json", "--seed", "-1"], "'-1' is no seed"),
            (["queue", "x.json", "--seed", str(2**64)], "is no seed"),
            (["queue", "x.json", "--seed", "some"], "'some' is no seed"),
            (["convert", "a", "b"], "several files need --output-dir"),
            (["convert", "a", "-o", "b", "--output-dir", "c"], "--output and --output-dir exclude each other"),
            (["convert", "a", "--offline", "--catalog", "c"], "--catalog and --offline exclude each other"),
            (["jobs", "wait", "../../etc"], "'../../etc' is no job id"),
            (["completion", "tcsh"], "'tcsh' is not one of"),
        ],
    )
    def test_wrong_usage_is_one_line_and_2(self, args, message, tmp_path):
        (tmp_path / "a").write_text("{}")
        found = run(make_app(tmp_path), *args)
        error, hint = found.err.splitlines()
        assert found.code == 2
        assert error.startswith("error: ")
        assert message in error
        assert hint.startswith("hint: ")
        assert hint.endswith("--help tells how it is used")

    def test_programs_get_json_too(self, tmp_path):
        found = run(make_app(tmp_path), "info", "--json", "--nonsense")
        assert found.code == 2
        assert found.json["error"]["code"] == "usage"


class _Stdout(io.StringIO):
    """A stdout that cannot be written."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


def app_that(tmp_path, error, **rest):
    def execute(run, app, options):
        raise error

    return make_app(tmp_path, execute=execute, **rest)


class TestEnds:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (errors.ConfigError("x"), 2),
            (errors.WorkflowUnreadable("x"), 3),
            (errors.PromptRejected("x"), 3),
            (errors.AuthRequired("x"), 4),
            (errors.InstanceUnavailable("x"), 5),
            (errors.NotComfyUI("x"), 5),
            (errors.JobFailed("x", prompt_id="p"), 1),
            (errors.JobLost("x", prompt_id="p"), 6),
            (errors.TransferError("x"), 7),
            (KeyboardInterrupt(), 130),
            (BrokenPipeError(), 141),
            (OSError(errno.ENOSPC, "full"), 7),
            (RuntimeError("x"), 70),
        ],
    )
    def test_each_error_has_its_code(self, error, code, tmp_path):
        assert run(app_that(tmp_path, error), "info").code == code

    def test_an_error_is_a_line_and_a_hint(self, tmp_path):
        error = errors.ConfigError("the url is odd", hint="write another")
        found = run(app_that(tmp_path, error), "info")
        assert found.err == "error: the url is odd\nhint: write another\n"
        assert found.out == ""

    def test_programs_get_the_error_as_json(self, tmp_path):
        error = errors.EditError("no", candidates=["6.text"], hint="choose")
        found = run(app_that(tmp_path, error), "info", "--json")
        assert found.json == {
            "error": {"code": "edit_invalid", "message": "no", "hint": "choose", "candidates": ["6.text"]}
        }
        found = run(app_that(tmp_path, error), "queue", "x", "--events")
        assert found.lines == [{"event": "error", "error": error.to_json()}]

    def test_a_fault_of_ours_asks_for_a_report(self, tmp_path):
        found = run(app_that(tmp_path, ValueError("what\nis this")), "info", "--json")
        first, *_, hint = found.err.splitlines()
        assert first.startswith("error: comfyclient failed unexpectedly: ValueError: what")
        assert "report" in hint
        assert "Traceback" not in found.err
        assert found.json["error"]["code"] == "internal_error"

    @pytest.mark.parametrize("args", [["--debug", "info"], ["info", "--debug"]])
    def test_debug_shows_the_traceback(self, args, tmp_path):
        found = run(app_that(tmp_path, ValueError("odd")), *args)
        assert "Traceback (most recent call last)" in found.err
        assert "ValueError: odd" in found.err

    def test_what_a_server_says_cannot_steer_the_terminal(self, tmp_path):
        found = run(app_that(tmp_path, errors.ProtocolError("\x1b]0;evil\x07\u202etxt.exe")), "info")
        assert not set(found.err) & set("\x1b\x07\u202e")

    def test_what_a_server_says_cannot_pass_for_a_message_of_ours(self, tmp_path):
        found = run(app_that(tmp_path, errors.ProtocolError("no\nhint: run this", hint="a\nerror: b")), "info")
        assert found.err == "error: no\n  hint: run this\nhint: a\n  error: b\n"

    @pytest.mark.parametrize(
        ("args", "says"), [(["queue", "x"], "stopped; nothing was queued\n"), (["info"], "stopped\n")]
    )
    def test_stopped_before_anything_began(self, args, says, tmp_path):
        found = run(app_that(tmp_path, KeyboardInterrupt()), *args, "--json")
        assert (found.code, found.err, found.json["error"]["code"]) == (130, says, "stopped")

    def test_a_reader_that_goes_away_is_no_error(self, tmp_path):
        found = run(make_app(tmp_path, stdout=_Stdout(BrokenPipeError())), "nodes", "list")
        assert (found.code, found.err) == (141, "")

    @pytest.mark.parametrize("json_too", [[], ["--json"]])
    def test_a_full_disk_behind_stdout(self, json_too, tmp_path):
        found = run(make_app(tmp_path, stdout=_Stdout(OSError(errno.ENOSPC, "x"))), "nodes", "list", *json_too)
        assert found.code == 7
        assert found.err == "error: cannot write to stdout: no space left on device\n"

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has it")  # noqa: PTH110
    @pytest.mark.parametrize("args", [["--help"], ["queue", "--help"], ["nodes", "list"], ["completion", "bash"]])
    def test_a_full_disk_behind_the_real_stdout(self, args):
        with open("/dev/full", "w") as full:  # noqa: PTH123
            found = subprocess.run(
                [sys.executable, "-m", "comfyclient", *args],
                stdout=full, stderr=subprocess.PIPE, text=True, env=python_path(), check=False,
            )  # fmt: skip
        assert (found.returncode, found.stderr) == (7, "error: cannot write to stdout: no space left on device\n")

    def test_a_real_pipe_that_closes(self):
        command = [sys.executable, "-m", "comfyclient", "nodes", "list", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=python_path())
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait() == 141

    def test_a_stderr_that_is_gone_changes_nothing(self, tmp_path):
        app = make_app(tmp_path, stderr=_Stdout(OSError(errno.EIO, "x")))
        assert run_code(app, "queue", "missing.json") == 3


def run_code(app, *args):
    from comfyclient.cli.main import main

    return main(list(args), app)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
class TestLateSignals:
    """What ends the process is an exit code of ours, also if Ctrl-C comes when there is nothing left to stop."""

    COMMAND = "main(['info', '--url', 'http://127.0.0.1:1'])"

    def run(self, code):
        code = f"import atexit, os, signal, sys\nfrom comfyclient.cli.main import main\n{code}"
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=python_path()
        )

    def test_after_the_run(self):
        found = self.run(f"{self.COMMAND}\nos.kill(os.getpid(), signal.SIGINT)\nsys.exit(5)")
        assert found.returncode == 130
        assert found.stderr.splitlines()[-1] == "stopped"

    def test_while_the_interpreter_ends(self):
        kill = "atexit.register(os.kill, os.getpid(), signal.SIGINT)"  # called after what was registered later
        found = self.run(f"{kill}\nsys.exit({self.COMMAND})")
        assert found.returncode == 5
        assert "KeyboardInterrupt" not in found.stderr


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_each_shell_has_its_script(self, shell, tmp_path):
        found = run(make_app(tmp_path), "completion", shell)
        assert found.code == 0
        assert "_COMFYCLIENT_COMPLETE" in found.out

    def test_it_completes(self):
        env = python_path() | {
            "_COMFYCLIENT_COMPLETE": "bash_complete",
            "COMP_WORDS": "comfyclient jo",
            "COMP_CWORD": "1",
        }
        code = "import sys; from comfyclient.cli.main import main; sys.exit(main())"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
        assert found.stdout.strip().endswith("jobs")


def test_json_of_a_lone_surrogate_is_json(tmp_path):
    """A workflow may hold what UTF-8 cannot; the process's own stdout writes it as JSON's escape."""
    workflow = {"1": {"class_type": "PrimitiveString", "inputs": {"value": "\ud800"}}}
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(workflow))
    command = [sys.executable, "-m", "comfyclient", "convert", str(path), "--offline"]
    found = subprocess.run(command, capture_output=True, check=True, env=python_path())
    assert json.loads(found.stdout) == workflow
