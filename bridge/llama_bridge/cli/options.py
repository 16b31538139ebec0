"""Options that several commands share, and the settings made from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import reduce, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import click

from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..errors import InvalidInput
from ..models.source import DEMO
from ..params import AUTO as AUTO_SETTING
from ..params import Auto, KvType, ModelParams, ModelSettings, SamplingParams, override
from ..registry import AUTO, ENVIRONMENT
from .terminal import Terminal

__all__ = [
    "BEST",
    "adapter_option",
    "as_json",
    "load",
    "loading_options",
    "sampling_options",
    "untrusted_option",
]

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


BEST = f"${ENVIRONMENT}, else the best available"


if TYPE_CHECKING:
    _ParamType = click.ParamType[int | Auto]
else:
    _ParamType = click.ParamType  # click 8.1 cannot say of what


class _NumberOrAuto(_ParamType):
    """A whole number, or "auto"."""

    name = "N|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Auto:
        """Read it."""
        if value == AUTO_SETTING:
            return AUTO_SETTING
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor {AUTO_SETTING!r}", param, ctx)


def loading_options(default: str) -> Callable[[F], F]:
    """``--backend``, and the options that make the argument ``params``; ``default`` describes the default backend."""
    options = (
        click.option(
            "--type-v",
            type=click.Choice(get_args(KvType)),
            default="f16",
            show_default=True,
            help="Type of the V cache.",
        ),
        click.option(
            "--type-k",
            type=click.Choice(get_args(KvType)),
            default="f16",
            show_default=True,
            help="Type of the K cache; q8_0 for both takes half as much memory.",
        ),
        click.option(
            "--no-memory-check",
            is_flag=True,
            help="Load a model even if it needs more memory than there is.",
        ),
        click.option(
            "--threads",
            type=int,
            metavar="N",
            default=0,
            help="Compute threads. Default: all cores, one for a tiny model.",
        ),
        click.option(
            "--n-gpu-layers",
            type=_NumberOrAuto(),
            metavar="N|auto",
            default=0,
            help="Layers on a GPU, -1 for all; auto: as many as fit. Default: none.",
        ),
        click.option(
            "--n-ctx",
            type=_NumberOrAuto(),
            metavar="N|auto",
            default=0,
            help="Context length in tokens; auto: the longest that fits. Default: as trained, at most 4096.",
        ),
        click.option(
            "--backend",
            metavar="NAME",
            default=AUTO,
            help=f"A backend that doctor lists. Default: {default}.",
        ),
    )

    def decorate(command: F) -> F:
        @wraps(command)
        def with_params(
            *args: Any,
            n_ctx: int | Auto,
            n_gpu_layers: int | Auto,
            threads: int,
            type_k: KvType,
            type_v: KvType,
            no_memory_check: bool,
            **rest: Any,
        ) -> Any:
            settings: ModelSettings = {"n_ctx": n_ctx, "n_gpu_layers": n_gpu_layers}
            settings |= {"n_threads": threads, "type_k": type_k, "type_v": type_v}
            settings["check_memory"] = not no_memory_check
            return command(*args, params=_make_params(settings), **rest)

        return reduce(lambda made, option: option(made), options, cast("F", with_params))

    return decorate


def untrusted_option(command: F) -> F:
    """``--untrusted``."""
    return click.option(
        "--untrusted",
        is_flag=True,
        help="Run the model in a sandbox, whatever is installed: for files that nobody vouches for.",
    )(command)


def adapter_option(command: F) -> F:
    """``--adapter``, as a list of paths and scales."""
    return click.option(
        "--adapter",
        "adapters",
        metavar="FILE[=SCALE]",
        multiple=True,
        callback=_adapters,
        help="A LoRA adapter of the model, and how strongly it acts (1). May be given several times.",
    )(command)


def _adapters(
    _: click.Context, __: click.Parameter, given: tuple[str, ...]
) -> list[tuple[str, float]]:
    return [_adapter(text) for text in given]


def _adapter(text: str) -> tuple[str, float]:
    """A path and a scale; a file whose name ends like a scale is a file."""
    path, equals, scale = text.rpartition("=")
    if equals and not os.path.exists(os.path.expanduser(text)):
        try:
            return path, float(scale)
        except ValueError:
            pass  # an equals sign in the path
    return text, 1.0


def sampling_options(command: F) -> F:
    """``--temperature``, ``--seed`` and ``--max-tokens``."""
    options = (
        click.option(
            "--max-tokens",
            type=int,
            metavar="N",
            default=SamplingParams().max_tokens,
            show_default=True,
            help="The most tokens in an answer; 0: until the context is full.",
        ),
        click.option("--seed", type=int, metavar="N", help="The same seed gives the same answer."),
        click.option(
            "--temperature",
            type=float,
            metavar="T",
            help="0 is greedy. Default: 0 for the demo model, else 0.8.",
        ),
    )
    return reduce(lambda made, option: option(made), options, command)


def _make_params(settings: ModelSettings) -> ModelParams:
    """Load-time settings; a value out of range is a usage error."""
    try:
        return override(ModelParams(), settings)
    except InvalidInput as error:
        raise click.UsageError(_as_option(error)) from error


def _make_sampling(
    model: str, temperature: float | None, seed: int | None, max_tokens: int, speculate: bool
) -> SamplingParams:
    if temperature is None:
        # The packaged model is too small to spell names right at a higher temperature.
        temperature = 0.0 if model == DEMO else SamplingParams().temperature
    try:
        return SamplingParams(
            max_tokens=max_tokens or None, temperature=temperature, seed=seed, speculate=speculate
        )
    except InvalidInput as error:
        raise click.UsageError(_as_option(error)) from error


def _as_option(error: InvalidInput) -> str:
    """Rewrite ``n_threads=-1: n_threads must be ...`` in terms of the option."""
    setting, _, rule = str(error).partition(": ")
    name, _, value = setting.partition("=")
    option = {"n_threads": "--threads"}.get(name, "--" + name.replace("_", "-"))
    return f"{option} {value}: {rule.removeprefix(name).strip()}"


def load(
    terminal: Terminal,
    model: str,
    *,
    backend: str,
    untrusted: bool,
    adapters: Sequence[tuple[str, float]],
    params: ModelParams,
    temperature: float | None,
    seed: int | None,
    max_tokens: int,
    system: str | None = None,
    speculate: bool = False,
) -> LlamaBridge:
    """The bridge that the options describe; ``speculate`` as in :class:`~llama_bridge.SamplingParams`.

    Raises:
        BridgeError: it cannot be created.
        UnsupportedCapability: ``system`` is given, but the model has no chat template.
    """
    sampling = _make_sampling(model, temperature, seed, max_tokens, speculate)
    with terminal.waiting(f"loading {model}"):
        llama = LlamaBridge(
            model,
            backend=backend,
            untrusted=untrusted,
            adapters=adapters,
            params=params,
            sampling=sampling,
            system=system,
            on_progress=terminal.progress,
        )
    if system is not None:
        try:
            llama.requires(Capability.CHAT_TEMPLATE)
        except BaseException:
            llama.close()
            raise
    return llama
