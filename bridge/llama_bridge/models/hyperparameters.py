"""Checks a model's numbers: those that llama.cpp asserts, divides by, or counts layers and heads with.

The rules are those of ``llama_model_base::load_hparams``, of the graphs in ``src/models/``, and of ggml's operators. A rule
that holds for some architectures only is in ``architecture_rules.py``.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

from .arrays import read_numbers
from .gguf import Value
from .source import ModelFile

__all__ = ["MAX_LAYERS", "Hyperparameters", "wrong_numbers"]

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
_MAX_WINDOW = 1 << 24
_MAX_WIDTH = 1 << 20
"""Ten times that of the widest model. Products of two still fit everywhere."""
_SCALINGS = ("none", "linear", "yarn", "longrope")
_TWO_SHIFTS = ("rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7")
_ONE_EXPERT_IS_NONE = ("hunyuan-dense", "hunyuan_vl")
_NOT_TURNED = frozenset(
    [
        "bert",
        "bloom",
        "clip",
        "glm5-next",
        "gpt2",
        "gptj",
        "granitehybrid",
        "jais",
        "jamba",
        "jina-bert-v2",
        "kimi-k3",
        "kimi-linear",
        "mpt",
        "nemotron_h",
        "nemotron_h_moe",
        "refact",
        "starcoder",
        "t5",
        "t5encoder",
        "wavtokenizer-dec",
    ]
)
"""Architectures whose heads RoPE need not turn."""
_WIDTHS = (
    "embedding_length",
    "embedding_length_out",
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "attention.key_length_mla",
    "attention.value_length_mla",
    "attention.kv_lora_rank",
    "attention.q_lora_rank",
    "attention.head_count",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.conv_kernel",
    "ssm.time_step_rank",
    "ssm.group_count",
    "shortconv.l_cache",
    "wkv.head_size",
)
"""Absurd ones overflow llama.cpp's 32-bit products."""


class Hyperparameters:
    """A model's numbers by their names without the architecture, one for all layers or one for each."""

    def __init__(self, model: ModelFile) -> None:
        self._model = model
        self.header = model.header
        self.architecture = model.header.architecture
        self.n_layers = self.number("block_count", 1)

    def value(self, name: str, default: Value | None = None) -> Value | None:
        """What the file says, of any type."""
        return self.header.metadata.get(f"{self.architecture}.{name}", default)

    def number(self, name: str, default: int = 0) -> int:
        """One number, or the default."""
        return self.header.number(f"{self.architecture}.{name}", default)

    def names(self) -> list[str]:
        """Of everything that the file says about this architecture."""
        start = f"{self.architecture}."
        return [key.removeprefix(start) for key in self.header.metadata if key.startswith(start)]

    def is_there(self, name: str) -> bool:
        """Whether the file says it."""
        return f"{self.architecture}.{name}" in self.header.metadata

    def per_layer(self, name: str, default: int | Sequence[int] = 0) -> list[int]:
        """A number for each layer. A list may be shorter or longer than there are layers; llama.cpp refuses those."""
        found = self.value(name)
        if isinstance(found, bool | int):
            return [int(found)] * max(1, self.n_layers)
        if found is None or isinstance(found, float | str):
            return [default] * max(1, self.n_layers) if isinstance(default, int) else list(default)
        return [
            int(n)
            for n in read_numbers(self._model, f"{self.architecture}.{name}", MAX_LAYERS)
            if math.isfinite(n)
        ]


def wrong_numbers(of: Hyperparameters) -> Generator[str]:
    """Describe each impossible number, by its key."""
    if not 1 <= of.n_layers <= MAX_LAYERS:
        yield f"block_count is {of.n_layers}, not 1 to {MAX_LAYERS}"
        return
    yield from _wrong_sizes(of)
    yield from _wrong_experts(of)
    yield from _wrong_heads(of)
    yield from _wrong_rope(of)
    yield from _wrong_window(of)
    draft = of.number("nextn_predict_layers")
    if not 0 <= draft < of.n_layers:
        yield f"nextn_predict_layers is {draft}, but there are not that many layers"
    shifts = of.number("token_shift_count", 2)
    if of.architecture in _TWO_SHIFTS and shifts != 2:
        yield f"token_shift_count is {shifts}, not 2"


def _wrong_sizes(of: Hyperparameters) -> Generator[str]:
    for name in _WIDTHS:
        widest = max(of.per_layer(name), default=0)
        least = min(of.per_layer(name), default=0)
        if not 0 <= least <= widest <= _MAX_WIDTH:
            yield f"{name} is {widest if least >= 0 else least}, not 0 to {_MAX_WIDTH:,}"
    if of.is_there("embedding_length") and of.number("embedding_length") < 1:
        yield "embedding_length is 0"
    for name in of.names():
        if "epsilon" in name:
            value = of.value(name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                yield f"{name} is {value!r}, not a number of at least 0"


def _wrong_experts(of: Hyperparameters) -> Generator[str]:
    count, groups = of.number("expert_count"), of.number("expert_group_count")
    used = max(of.per_layer("expert_used_count"), default=0)
    if of.architecture in _ONE_EXPERT_IS_NONE and 0 <= count <= 1:
        count = used = 0
    if not 0 <= count <= _MAX_EXPERTS:
        yield f"expert_count is {count}, not 0 to {_MAX_EXPERTS}"
    if not min(1, count) <= used <= count:
        yield f"expert_used_count is {used}, but there are {count} experts"
    if groups and not 0 < groups < count:
        yield f"expert_group_count is {groups}, but there are {count} experts"
    if groups > 1:
        chosen = of.number("expert_group_used_count")
        if count % groups:
            yield f"expert_group_count is {groups}, but there are {count} experts"
        if not 0 < chosen < groups:
            yield f"expert_group_used_count is {chosen}, but there are {groups} groups"


def _wrong_heads(of: Hyperparameters) -> Generator[str]:
    heads = of.per_layer("attention.head_count")
    kv_heads = of.per_layer("attention.head_count_kv", heads)
    for n, n_kv in zip(heads, kv_heads, strict=False):
        if n_kv < 0 or (n_kv and n % n_kv):
            yield f"attention.head_count_kv is {n_kv}, which does not divide {n}"
            return
    width = of.number("embedding_length")
    sizes = [of.is_there(f"attention.{side}_length") for side in ("key", "value")]
    if heads and heads[0] and width % heads[0] and not all(sizes):
        yield f"attention.head_count is {heads[0]}, which does not divide the width of {width}"


def _wrong_rope(of: Hyperparameters) -> Generator[str]:
    scaling = of.value("rope.scaling.type", "linear")
    if isinstance(scaling, str) and scaling not in _SCALINGS:
        yield f"rope.scaling.type is {scaling[:40]!r}, not one of {', '.join(_SCALINGS)}"
    heads = of.per_layer("attention.head_count")
    if not heads or not heads[0]:
        return  # a kind without heads
    size = of.number("attention.key_length", of.number("embedding_length") // heads[0])
    turned = of.number("rope.dimension_count", size)
    for name, n, most in (
        ("rope.dimension_count", turned, size),
        (
            "rope.dimension_count_swa",
            of.number("rope.dimension_count_swa", turned),
            of.number("attention.key_length_swa", size),
        ),
    ):
        if of.is_there(name) and n == 0 and of.architecture not in _NOT_TURNED:
            yield f"{name} is 0"  # ggml's loop over the elements would never end
        if n < 0 or n % 2 or (most and n > most):
            yield f"{name} is {n}, but a head has {most} elements"
    sections = of.value("rope.dimension_sections")
    if isinstance(sections, list):
        numbers = [n for n in sections if isinstance(n, int)]
        if len(numbers) != len(sections) or min(numbers, default=0) < 0 or sum(numbers) > size:
            yield f"rope.dimension_sections is {sections!r}, but a head has {size} elements"


def _wrong_window(of: Hyperparameters) -> Generator[str]:
    window = of.value("attention.sliding_window")
    for size in of.per_layer("attention.sliding_window") if window is not None else ():
        if not 0 <= size <= _MAX_WINDOW:
            yield f"attention.sliding_window is {size!r}, not 0 to {_MAX_WINDOW}"
    pattern = of.value("attention.sliding_window_pattern")
    if isinstance(pattern, int) and not isinstance(pattern, bool) and pattern < 2:
        yield f"attention.sliding_window_pattern is {pattern!r}, not at least 2"
