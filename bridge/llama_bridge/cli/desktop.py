"""``llama-bridge app``: the chat application in a window of its own."""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path
from typing import Any

import click

from ..hub.find import is_there
from ..models.source import DEMO
from .listening import listen
from .logs import verbose
from .options import BEST, adapter_option, loading_options, untrusted_option
from .serve import NEEDED
from .window import Window

__all__ = ["desktop"]


@click.command("app")
@click.argument("model", default=DEMO)
@click.option(
    "--conversations-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keeps the conversations. Default: a folder of this user.",
)
@loading_options(BEST)
@untrusted_option
@adapter_option
@verbose
@click.pass_context
def desktop(
    context: click.Context, /, model: str, conversations_dir: Path | None, **loading: Any
) -> None:
    """Chat with a model in a window. MODEL is the demo model by default.

    The window is the system's own web view (pip install "llama-bridge[app]"), or else a window of a browser. Its server
    listens on this machine only, and answers only to this window. Closing the window ends it.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise click.ClickException('the window needs: pip install "llama-bridge[app]"')
    from platformdirs import user_data_path  # a page has none

    folder = conversations_dir or user_data_path("llama-bridge", appauthor=False) / "conversations"
    host, key, word = "127.0.0.1", secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    with listen(host, 0) as listener:
        address = f"http://{host}:{listener.getsockname()[1]}/#window={word}"
        with Window(address) as window:
            if model == DEMO or is_there(model):
                window.open()  # half a second, while the model is loaded; a download is shown in the terminal
            from ..serve.running import ignore_signals  # with the next: 150 ms
            from .serving import Plan, serve_window

            plan = Plan(
                host=host,
                port=0,
                grace=0,
                api_keys=(key,),
                hosts=(),
                origins=(),
                log_prompts=False,
                sessions_dir=None,
                n_parallel=2,
                session_memory=256,
                **loading,
            )
            serve_window(context.obj, plan, model, folder, listener, word, window.open)
    ignore_signals()
