"""The command group: what all commands share, above all errors and exit statuses."""

from __future__ import annotations

import errno
import sys
import warnings
from typing import Any

import click

from .._version import __version__
from ..errors import BridgeError, FallbackWarning
from .chat import chat
from .demo import demo
from .desktop import desktop
from .doctor import doctor
from .embed import embed, rerank
from .failures import as_record, describe
from .info import info, session
from .logs import verbose
from .models import models, pull, rm
from .run import run
from .serve import serve
from .terminal import STANDARD_OUTPUT, Terminal
from .verify import verify

__all__ = ["app"]

_INTERRUPTED = 130

_EXAMPLES = """\b
Start here:
  llama-bridge demo                   a conversation on each backend that works here
  llama-bridge chat                   talk to the packaged demo model
  llama-bridge chat MODEL.gguf        talk to your own model
  llama-bridge chat hf:org/repo       talk to a model from the hub
  llama-bridge app MODEL.gguf         the same in a window
  llama-bridge run "Hello" --json     one answer, for scripts
  llama-bridge doctor                 what works here, and what to do about the rest

Exit status: 0 success, 1 failure, 2 wrong usage, 130 interrupted."""


class _Group(click.Group):
    """Turns every error of the library into one message and status 1; with ``--json``, also into JSON."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look for ``--json`` here, because a command with wrong options never gets to it."""
        ctx.meta[__name__] = "--json" in args[: args.index("--") if "--" in args else None]
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments; Ctrl-C ends this like all else, where click would print "Aborted!"."""
        try:
            return super().make_context(*args, **extra)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(_INTERRUPTED) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            try:
                return super().invoke(ctx)
            except (BridgeError, click.ClickException) as error:
                if ctx.meta[__name__]:
                    Terminal().json(as_record(error))
                raise click.exceptions.Exit(_tell(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(_INTERRUPTED) from None
        except OSError as error:
            Terminal.mute(sys.stdout)
            if error.errno != errno.EPIPE:  # the reader of the pipe has left
                where = error.filename or STANDARD_OUTPUT  # where click writes a help text
                Terminal().error(f"{where}: {error.strerror or error}")
            raise click.exceptions.Exit(1) from error


def _tell(error: BridgeError | click.ClickException) -> int:
    """Show an error on standard error; returns the exit status."""
    if isinstance(error, BridgeError):
        Terminal().error(describe(error))
        return 1
    try:
        error.show()
    except OSError:
        Terminal.mute(sys.stderr)
    return error.exit_code


@click.group(
    cls=_Group,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="llama-bridge")
@verbose
@click.pass_context
def app(context: click.Context) -> None:
    """One interface to llama.cpp on desktops and in browser pages, with KV-cache sessions."""
    # The commands show Generation.fallback in the conversation instead.
    warnings.simplefilter("ignore", FallbackWarning)
    context.obj = Terminal()


for _command in (
    demo,
    chat,
    desktop,
    run,
    serve,
    embed,
    rerank,
    pull,
    models,
    rm,
    doctor,
    info,
    session,
):
    app.add_command(_command)
session.add_command(verify)
