"""``llama-bridge serve``: a model for any client that knows OpenAI's interface."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click

from ..checks import check_path
from ..errors import InvalidInput
from ..models.source import DEMO
from .logs import verbose
from .options import BEST, adapter_option, loading_options, untrusted_option

__all__ = ["NEEDED", "serve"]

NEEDED = ("starlette", "uvicorn", "prometheus_client")
"""What the server imports, of the extra ``[serve]``."""


@click.command
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--alias", "aliases", multiple=True, metavar="NAME", help="The name of one MODEL in requests."
)
@click.option(
    "--models-dir", metavar="DIR", help="Its GGUF files are models, too, named as they are."
)
@click.option(
    "--idle",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    metavar="S",
    help="Of several models, seconds until one that nobody uses is unloaded.",
)
@click.option(
    "--n-parallel", type=int, metavar="N", default=4, show_default=True, help="Answers at once."
)
@click.option(
    "--api-key-file",
    metavar="FILE",
    help="Keys, one a line: requests must bring one of them. Default: none needed.",
)
@click.option(
    "--allowed-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name that the Host header may have, besides localhost and addresses in numbers.",
)
@click.option(
    "--cors-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Web pages that may ask, such as https://example.org; * for all. Default: none.",
)
@click.option(
    "--sessions-dir", metavar="DIR", help="Keeps responses and their sessions over restarts."
)
@click.option(
    "--session-memory",
    type=click.IntRange(0),
    default=64,
    show_default=True,
    metavar="MB",
    help="Memory for KV caches of responses that are not being answered; the others are on the disk.",
)
@click.option("--log-prompts", is_flag=True, help="Write what people say into the log.")
@click.option(
    "--grace",
    type=click.IntRange(0),
    default=30,
    show_default=True,
    metavar="S",
    help="Seconds that answers have to finish once the server is told to end.",
)
@loading_options(BEST)
@untrusted_option
@adapter_option
@verbose
@click.pass_context
def serve(
    context: click.Context,
    /,
    models: tuple[str, ...],
    host: str,
    port: int,
    models_dir: str | None,
    idle: float,
    aliases: tuple[str, ...],
    api_key_file: str | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    log_prompts: bool,
    grace: int,
    **loading: Any,
) -> None:
    """Serve models to clients of OpenAI's interface.

    Clients give http://HOST:PORT/v1 as their base URL. One MODEL, which is the demo model by default, is loaded at
    once. Several, and those of --models-dir, are loaded when a request names them. SIGTERM finishes what is being
    answered.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise click.ClickException('the server needs: pip install "llama-bridge[serve]"')
    from .serving import Plan, serve_one, serve_several  # 180 ms with starlette and uvicorn

    plan = Plan(
        host=host,
        port=port,
        grace=grace,
        api_keys=_keys(api_key_file) if api_key_file is not None else (),
        hosts=hosts,
        origins=origins,
        log_prompts=log_prompts,
        **loading,
    )
    if models_dir is None and len(models) <= 1:
        serve_one(context.obj, plan, models[0] if models else DEMO, aliases)
        return
    if aliases or plan.adapters:
        raise click.UsageError("--alias and --adapter are for one MODEL")
    serve_several(context.obj, plan, models, models_dir, idle)


def _keys(file: str) -> tuple[str, ...]:
    path = check_path("api_key_file", file)
    try:
        # With or without the mark that Windows' editors put at the beginning.
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"--api-key-file {file}: {getattr(error, 'strerror', error)}") from error
    keys = tuple(line.strip() for line in lines if line.strip())
    if not keys:
        raise InvalidInput(f"--api-key-file {file}: there is no key in it")
    return keys
