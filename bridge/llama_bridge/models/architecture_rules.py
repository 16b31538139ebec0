"""What llama.cpp asserts of single architectures (``src/models/`` of its source)."""

from __future__ import annotations

from collections.abc import Generator

from .hyperparameters import Hyperparameters

__all__ = ["wrong_for_architecture"]

_NO_MODEL = {
    "clip": "it is the part of a model that sees or hears: give the path of the language model",
    "dflash": "it drafts for another model, and cannot run alone",
    "eagle3": "it drafts for another model, and cannot run alone",
    "gemma4-assistant": "it drafts for another model, and cannot run alone",
}
_EQUAL_HEADS = frozenset(
    [
        "afmoe",
        "apertus",
        "arcee",
        "arctic",
        "baichuan",
        "bailingmoe2",
        "bert",
        "bitnet",
        "bloom",
        "chameleon",
        "chatglm",
        "codeshell",
        "cogvlm",
        "cohere2",
        "cohere2moe",
        "command-r",
        "dbrx",
        "deci",
        "deepseek",
        "dots1",
        "dream",
        "ernie4_5",
        "ernie4_5-moe",
        "eurobert",
        "exaone",
        "exaone-moe",
        "exaone4",
        "falcon",
        "glm4",
        "glm4moe",
        "gpt2",
        "gptneox",
        "granite",
        "granite_swa",
        "granitehybrid",
        "granitemoe",
        "graniteswitch",
        "grok",
        "grovemoe",
        "hunyuan-dense",
        "hunyuan-moe",
        "hunyuan_vl",
        "hy_v3",
        "internlm2",
        "jais",
        "jais2",
        "jina-bert-v2",
        "jina-bert-v3",
        "laguna",
        "llada",
        "llada-moe",
        "llama",
        "llama-embed",
        "llama4",
        "maincoder",
        "maple",
        "mellum",
        "minicpm",
        "minimax-01",
        "minimax-m2",
        "minimax-m3",
        "mistral3",
        "modern-bert",
        "mpt",
        "muse-glimmer",
        "nanbeige",
        "nemotron",
        "nemotron_h",
        "nemotron_h_moe",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "olmo",
        "olmo2",
        "olmoe",
        "openelm",
        "orion",
        "paddleocr",
        "pangu-embedded",
        "phi2",
        "phi3",
        "phimoe",
        "plamo",
        "pockettts",
        "qwen",
        "qwen2",
        "qwen2moe",
        "qwen2vl",
        "qwen3",
        "qwen35",
        "qwen35moe",
        "qwen3moe",
        "qwen3tts",
        "qwen3vl",
        "qwen3vlmoe",
        "refact",
        "rnd1",
        "seed_oss",
        "smallthinker",
        "smollm3",
        "spark2_5",
        "stablelm",
        "starcoder",
        "starcoder2",
        "t5",
        "t5encoder",
        "talkie",
        "xverse",
    ]
)
"""Keys and values have the same length."""
_WHOLE_ROPE = frozenset(
    [
        "apertus",
        "arcee",
        "arctic",
        "baichuan",
        "chameleon",
        "codeshell",
        "cogvlm",
        "cohere2moe",
        "dbrx",
        "deci",
        "deepseek",
        "dots1",
        "dream",
        "ernie4_5",
        "ernie4_5-moe",
        "exaone",
        "exaone-moe",
        "exaone4",
        "falcon",
        "granite",
        "granite_swa",
        "granitemoe",
        "graniteswitch",
        "grok",
        "grovemoe",
        "hunyuan-dense",
        "hunyuan-moe",
        "hunyuan_vl",
        "hy_v3",
        "internlm2",
        "jais2",
        "llada",
        "llada-moe",
        "llama",
        "llama-embed",
        "llama4",
        "maincoder",
        "mellum",
        "minicpm",
        "mistral3",
        "olmo",
        "olmo2",
        "olmoe",
        "orion",
        "paddleocr",
        "pangu-embedded",
        "plamo",
        "pockettts",
        "qwen2",
        "qwen2moe",
        "qwen2vl",
        "qwen3",
        "qwen3moe",
        "qwen3tts",
        "qwen3vl",
        "qwen3vlmoe",
        "rnd1",
        "seed_oss",
        "smallthinker",
        "smollm3",
        "starcoder2",
        "talkie",
        "xverse",
    ]
)
"""RoPE turns the whole head."""
_ONE_FOR_ALL = frozenset(
    [
        "afmoe",
        "apertus",
        "arcee",
        "arctic",
        "arwkv7",
        "baichuan",
        "bailingmoe",
        "bailingmoe2",
        "bert",
        "bitnet",
        "bloom",
        "chameleon",
        "chatglm",
        "codeshell",
        "cogvlm",
        "cohere2",
        "cohere2moe",
        "command-r",
        "dbrx",
        "deepseek",
        "deepseek2",
        "deepseek2-ocr",
        "deepseek32",
        "deepseek4",
        "dots1",
        "dream",
        "ernie4_5",
        "ernie4_5-moe",
        "eurobert",
        "exaone",
        "exaone-moe",
        "exaone4",
        "falcon",
        "falcon-h1",
        "gemma",
        "gemma-embedding",
        "gemma2",
        "gemma3",
        "gemma3n",
        "glm-dsa",
        "glm4",
        "glm4moe",
        "gpt-oss",
        "gpt2",
        "gptneox",
        "grok",
        "grovemoe",
        "hrm_text",
        "hunyuan-dense",
        "hunyuan-moe",
        "hunyuan_vl",
        "hy_v3",
        "hy_v4",
        "internlm2",
        "jais",
        "jais2",
        "jina-bert-v2",
        "jina-bert-v3",
        "llada",
        "llada-moe",
        "llama",
        "llama-embed",
        "llama4",
        "maincoder",
        "mamba",
        "mamba2",
        "maple",
        "mellum",
        "minicpm3",
        "minimax-01",
        "minimax-m2",
        "minimax-m3",
        "mistral3",
        "mistral4",
        "modern-bert",
        "mpt",
        "muse-glimmer",
        "nemotron",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "olmo",
        "olmo2",
        "olmoe",
        "orion",
        "paddleocr",
        "pangu-embedded",
        "phi2",
        "phi3",
        "phimoe",
        "plamo",
        "plm",
        "pockettts",
        "qwen",
        "qwen2",
        "qwen2moe",
        "qwen2vl",
        "qwen3",
        "qwen35",
        "qwen35moe",
        "qwen3moe",
        "qwen3next",
        "qwen3tts",
        "qwen3vl",
        "qwen3vlmoe",
        "qwen4exp",
        "refact",
        "rnd1",
        "rwkv6",
        "rwkv6qwen2",
        "rwkv7",
        "seed_oss",
        "smallthinker",
        "smollm3",
        "stablelm",
        "starcoder",
        "starcoder2",
        "t5",
        "t5encoder",
        "talkie",
        "wavtokenizer-dec",
        "xverse",
    ]
)
"""All layers have as many heads: llama.cpp computes with those of the first."""
_FUSED_OR_NOT = ("phi3", "pockettts")
"""Each layer has Q, K and V, in one tensor or in three, and llama.cpp does not ask which."""
_NEEDED = {
    "t5": ("enc.blk.0.attn_rel_b.weight", "dec.blk.0.attn_rel_b.weight"),
    "t5encoder": ("enc.blk.0.attn_rel_b.weight",),
}
"""Tensors that llama.cpp takes for granted."""
_EXPERTS = frozenset(("bailingmoe2", "glm4moe", "grovemoe", "llada-moe", "smallthinker"))
"""They are nothing without."""
_POSITIVE: dict[str, tuple[str, ...]] = {
    "deepseek4": ("attention.output_group_count",),
    "ernie4_5-moe": ("interleave_moe_layer_step",),
    "grovemoe": ("experts_per_group",),
    "hrm_text": ("hrm.h_cycles", "hrm.l_cycles", "hrm.layers_per_stack"),
    "lfm2": ("shortconv.l_cache",),
    "lfm2moe": ("shortconv.l_cache",),
    "llama4": ("interleave_moe_layer_step",),
    "minimax-01": ("full_attention_interval",),
    "minimax-m3": ("attention.indexer.block_size",),
    "qwen35": ("full_attention_interval",),
    "qwen35moe": ("full_attention_interval",),
    "qwen3next": ("full_attention_interval",),
    "qwen4exp": ("full_attention_interval",),
}
"""Numbers that may be missing, but not 0."""
_SECTIONED = frozenset(
    ["paddleocr", "qwen2vl", "qwen35", "qwen35moe", "qwen3tts", "qwen3vl", "qwen3vlmoe", "qwen4exp"]
)
"""Each position has several parts, which turn parts of a head."""
_OF_RWKV = frozenset(["arwkv7", "rwkv6", "rwkv6qwen2", "rwkv7"])
_HEADS_OF_64 = frozenset(["arwkv7", "rwkv7"])
"""ggml computes their heads in steps of 64 numbers where it has AVX-512, of 32 and 16 elsewhere, and does not stop at a head's end."""
_DIVIDED_BY_HEADS = ("olmo2", "phimoe")
"""The width is divided by their number before anything is checked."""
_DIVIDED_BY_EXPERTS = frozenset(
    ["mellum", "qwen2moe", "qwen35moe", "qwen3moe", "qwen3next", "qwen3vlmoe", "qwen4exp", "rnd1"]
)
"""So is the feed-forward length by the experts used, if the file has no length for one expert."""
_STATE_HEADS = frozenset(["falcon-h1", "granitehybrid", "mamba2", "nemotron_h", "nemotron_h_moe"])
"""Their running state is of heads and groups, which divide its size."""
_LINEAR_ATTENTION = frozenset(["qwen35", "qwen35moe", "qwen3next", "qwen4exp"])
"""They have heads for values and heads for keys, in the same two numbers."""
_MAY_HAVE_NO_HEADS = frozenset(["granitehybrid", "nemotron_h", "nemotron_h_moe"])
_OTHER_HEADS = (
    "attention.key_length_swa",
    "attention.value_length_swa",
    "rope.dimension_count_swa",
)
_FULL_FIRST = frozenset(["cohere2moe", "laguna", "smallthinker"])
"""Layers with a window come after one without."""
_BOTH_KINDS = ("gemma-embedding", "modern-bert")
"""Encoders with layers of both kinds: llama.cpp fills in the masks of both."""
_ALWAYS_A_WINDOW = ("gemma2", "llama4")
_WINDOW_OF_NOTHING = frozenset(
    [
        "cohere2",
        "cohere2moe",
        "deepseek4",
        "dflash",
        "dots3note",
        "exaone-moe",
        "gemma2",
        "gemma3n",
        "gemma4",
        "gemma4-assistant",
        "gpt-oss",
        "granite_swa",
        "maple",
        "mimo2",
        "muse-glimmer",
        "spark2_5",
        "step35",
    ]
)
"""For the others a window of 0 means that there is none. In these a token does not even attend to itself, and llama.cpp
cannot load the states that it saves."""
_LAYERS_OF_LARGE_EXAONE = 64  # it is one of these; smaller ones are not
_TWICE_AS_WIDE = ("granitehybrid", "jamba")


def wrong_for_architecture(of: Hyperparameters) -> Generator[str]:
    """Describe each number that this architecture cannot have."""
    arch = of.architecture
    if arch in _NO_MODEL:
        yield f"its architecture is {arch}: {_NO_MODEL[arch]}"
    for name in _POSITIVE.get(arch, ()):
        if of.is_there(name) and of.number(name) < 1:
            yield f"{name} is {of.number(name)}, not at least 1"
    if arch in _EXPERTS and of.number("expert_count") < 1:
        yield "expert_count is 0, but all of its layers have experts"
    per_expert = max(of.per_layer("expert_feed_forward_length"), default=0)
    if arch in _DIVIDED_BY_EXPERTS and of.number("expert_count") < 1 and not per_expert:
        yield "expert_count is 0, but there is no feed_forward_length for that"
    inner, width = of.number("ssm.inner_size"), of.number("embedding_length")
    if arch in _TWICE_AS_WIDE and inner != 2 * width:
        yield f"ssm.inner_size is {inner}, not twice the width of {width}"
    sections = of.per_layer("rope.dimension_sections")
    if arch in _SECTIONED and max(sections[:3], default=0) < 1:
        yield "rope.dimension_sections has no section with an element"
    shared = of.number("attention.shared_kv_layers")
    if arch == "gemma4" and not 0 <= shared <= of.n_layers - 2:
        yield f"attention.shared_kv_layers is {shared}, which leaves fewer than 2 of {of.n_layers} layers"
    size = of.number("wkv.head_size")
    if arch in _OF_RWKV and (size < 1 or width % size):
        yield f"wkv.head_size is {size}, which does not divide the width of {width}"
    elif arch in _HEADS_OF_64 and size % 64:
        yield f"wkv.head_size is {size}, not a multiple of 64"
    yield from _wrong_states(of)
    yield from _wrong_windows(of)
    yield from _wrong_tensors(of)
    heads = of.per_layer("attention.head_count")
    no_heads = max(heads, default=0) < 1 and arch in _EQUAL_HEADS - _MAY_HAVE_NO_HEADS
    if no_heads or (arch in _DIVIDED_BY_HEADS and heads[:1] in ([], [0])):
        yield "attention.head_count is 0"
    if arch in _ONE_FOR_ALL:
        kv_heads = of.per_layer("attention.head_count_kv", heads)
        for name, numbers in (("head_count", heads), ("head_count_kv", kv_heads)):
            if len(set(numbers)) > 1:
                yield f"attention.{name} is not the same in all layers, which {arch} cannot have"
    if not heads or heads[0] < 1 or any(of.is_there(name) for name in _OTHER_HEADS):
        return  # no heads, or others in layers with a window, of which the first may be one
    size = of.number("attention.key_length", width // heads[0])
    values = of.number("attention.value_length", width // heads[0])
    turned = of.number("rope.dimension_count", size)
    if arch in _EQUAL_HEADS and size != values:
        yield f"attention.key_length is {size}, but attention.value_length is {values}"
    if arch in _WHOLE_ROPE and turned != values:
        yield f"rope.dimension_count is {turned}, but a head has {values} elements"


def _wrong_states(of: Hyperparameters) -> Generator[str]:
    inner, heads, groups = (
        of.number(f"ssm.{name}") for name in ("inner_size", "time_step_rank", "group_count")
    )
    if of.architecture in _STATE_HEADS:
        for name, n in (("time_step_rank", heads), ("group_count", groups)):
            if n < 1 or inner % n:
                yield f"ssm.{name} is {n}, which does not divide the state's size of {inner}"
    if of.architecture in _LINEAR_ATTENTION and (groups < 1 or heads < 1 or heads % groups):
        yield f"ssm.group_count is {groups}, which does not divide ssm.time_step_rank of {heads}"


def _wrong_windows(of: Hyperparameters) -> Generator[str]:
    """A window of no tokens; or one that no layer has: llama.cpp asserts that one does."""
    windows = of.per_layer("attention.sliding_window", 1)
    large_exaone = of.architecture == "exaone4" and of.n_layers == _LAYERS_OF_LARGE_EXAONE
    if (of.architecture in _WINDOW_OF_NOTHING or large_exaone) and max(windows, default=1) < 1:
        yield "attention.sliding_window is 0: no token would attend to anything"
    default = 1 if of.architecture in _ALWAYS_A_WINDOW else 0
    if max(of.per_layer("attention.sliding_window", default), default=0) < 1:
        return
    n_layers = of.n_layers - of.number("nextn_predict_layers")
    name = "attention.sliding_window_pattern"
    is_list = not isinstance(of.value(name, 0), bool | int)
    listed = of.per_layer(name)[:n_layers]
    if is_list and not any(listed):
        yield f"{name} has no layer with a window"
    if is_list and all(listed) and of.architecture in _BOTH_KINDS:
        yield f"{name} has no layer without a window"
    if not is_list and of.architecture in _FULL_FIRST and n_layers < 2:
        yield f"block_count is {n_layers}: no layer has a window"


def _wrong_tensors(of: Hyperparameters) -> Generator[str]:
    names = {tensor.name for tensor in of.header.tensors}
    for name in _NEEDED.get(of.architecture, ()):
        if name not in names:
            yield f"tensor {name} is missing"
    if of.architecture in _FUSED_OR_NOT:
        for i in range(of.n_layers):
            apart = {f"blk.{i}.attn_{part}.weight" for part in "qkv"}
            if f"blk.{i}.attn_qkv.weight" not in names and not apart <= names:
                yield f"tensor blk.{i}.attn_qkv.weight is missing"
