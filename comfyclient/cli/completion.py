"""``comfyclient completion``."""

from __future__ import annotations

import click

__all__ = ["command"]

_SHELLS = ("bash", "zsh", "fish")


@click.command(
    short_help="Print the script that completes commands in a shell.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> int:
    """Print the script that completes comfyclient's commands and options in SHELL.

    \b
      bash:  eval "$(comfyclient completion bash)"        in ~/.bashrc
      zsh:   eval "$(comfyclient completion zsh)"         in ~/.zshrc
      fish:  comfyclient completion fish | source         in ~/.config/fish/config.fish
    """  # noqa: D301 - \b is how click is told not to wrap
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # click has one for each of _SHELLS
    ctx.obj.app.write(kind(ctx.find_root().command, {}, "comfyclient", "_COMFYCLIENT_COMPLETE").source())
    return 0
