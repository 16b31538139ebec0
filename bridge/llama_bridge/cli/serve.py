"""``llama-bridge serve``: a model for any client that knows OpenAI's interface."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import sys
from pathlib import Path
from typing import cast

import click

from ..bridge import LlamaBridge
from ..checks import check_path
from ..errors import InvalidInput
from ..models.source import DEMO
from ..params import ModelParams, ModelSettings, SamplingParams, override
from .logs import verbose
from .options import BEST, adapter_option, loading_options, untrusted_option
from .terminal import Terminal

__all__ = ["serve"]

_NEEDED = ("starlette", "uvicorn", "prometheus_client")


@click.command
@click.argument("model", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--alias", "aliases", multiple=True, metavar="NAME", help="The model's name in requests."
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
    model: str | None,
    host: str,
    port: int,
    aliases: tuple[str, ...],
    n_parallel: int,
    api_key_file: str | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    sessions_dir: str | None,
    log_prompts: bool,
    grace: int,
    backend: str,
    untrusted: bool,
    adapters: list[tuple[str, float]],
    params: ModelParams,
) -> None:
    """Answer requests in OpenAI's shape with MODEL, until Ctrl-C or SIGTERM.

    Clients give http://HOST:PORT/v1 as their base URL. Then SIGTERM finishes what is being answered.
    """
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise click.ClickException('the server needs: pip install "llama-bridge[serve]"')
    from ..serve import ServerSettings, app  # 120 ms with starlette
    from ..serve.running import listen, run  # 60 ms with uvicorn

    terminal: Terminal = context.obj
    settings = ServerSettings(
        api_keys=_keys(api_key_file) if api_key_file is not None else (),
        hosts=hosts,
        cors_origins=origins,
        log_prompts=log_prompts,
    )
    _show_requests()
    listener = listen(host, port)
    model = model or DEMO
    sampling = SamplingParams(max_tokens=None, temperature=0.0 if model == DEMO else 0.8)
    if "n_parallel" in ModelParams.__dataclass_fields__:
        params = override(params, cast("ModelSettings", {"n_parallel": n_parallel}))
    with listener, terminal.waiting(f"loading {model}"):
        llama = LlamaBridge(
            model,
            backend=backend,
            untrusted=untrusted,
            adapters=adapters,
            params=params,
            sampling=sampling,
            sessions_dir=sessions_dir,
            on_progress=terminal.progress,
        )
        listener = listener.dup()
    with llama:
        made = app(llama, name=aliases or None, settings=settings)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        if not settings.api_keys and not _is_here(host):
            click.echo(
                "warning: anybody who reaches this address may ask: give --api-key-file", err=True
            )
        run(made, listener, grace=grace, ready=lambda: click.echo(f"{address}/v1"))


def _keys(file: str) -> tuple[str, ...]:
    path = check_path("api_key_file", file)
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"--api-key-file {file}: {getattr(error, 'strerror', error)}") from error
    keys = tuple(line.strip() for line in lines if line.strip())
    if not keys:
        raise InvalidInput(f"--api-key-file {file}: there is no key in it")
    return keys


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _show_requests() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("llama_bridge.serve")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
