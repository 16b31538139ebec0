"""What fits: by arithmetic over a header, for machines that nobody has at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llama_bridge.models.fitting import (
    NATIVE,
    WASM,
    Gpu,
    Place,
    gpu_need,
    gpu_share,
    lacking,
    largest_layers,
    longest_context,
    need_of,
    planned_room,
    settled,
    spare,
    takes_q8_0,
    ways_out,
    with_kv,
)
from llama_bridge.models.gguf import GgufHeader, TensorInfo, Value
from llama_bridge.models.memory_need import MemoryNeed
from llama_bridge.params import ModelParams
from llama_bridge.system_memory import SystemMemory

GB = 1 << 30
LAYERS, WIDTH = 32, 4096


def llama(values: dict[str, Value] | None = None, *, tied: bool = False) -> GgufHeader:
    """The header of Llama 3 8B, at 4.5 bits."""

    def tensor(name: str, rows: int, columns: int = WIDTH) -> TensorInfo:
        return TensorInfo(name, (columns, rows), "Q4_0", 0, columns * rows * 18 // 32)

    tensors = [tensor("token_embd.weight", 128_256)]
    if not tied:
        tensors.append(tensor("output.weight", 128_256))
    for i in range(LAYERS):
        tensors += [
            tensor(f"blk.{i}.attn_q.weight", WIDTH),
            tensor(f"blk.{i}.ffn_up.weight", 14336),
        ]
    known: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.block_count": LAYERS,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": 14336,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "llama.context_length": 131_072,
    }
    return GgufHeader(3, known | (values or {}), tuple(tensors), 0, 0, (0, 0), (), (0, 0))


def share_of(header: GgufHeader, params: ModelParams, n_ctx: int, layers: int) -> int:
    """Bytes of both kinds."""
    return sum(gpu_share(header, params, n_ctx, layers))


def gpu(free: float) -> Gpu:
    return Gpu("GPU", int(free * GB), int(free * GB))


def settle(
    header: GgufHeader, room: int | None, *gpus: Gpu, place: Place = NATIVE, **settings: Any
) -> ModelParams:
    return settled(header, ModelParams(**settings), 131_072, place, room, gpus)


# a context


@pytest.mark.parametrize("most", [0, 1, 255, 256, 257, 1000, 131_072, 1 << 24])
@pytest.mark.parametrize("limit", [0, 1, 256, 300, 4096, 10**9])
def test_the_longest_context_is_the_longest(most: int, limit: int) -> None:
    found = longest_context(most, lambda n: n <= limit)
    assert found <= min(most, limit)
    assert found == most or found % 256 == 0
    assert found == most or found + 256 > min(most, limit)


@pytest.mark.parametrize("place", [NATIVE, WASM])
@pytest.mark.parametrize("room", [4, 5, 6, 8, 12, 16])
def test_an_automatic_context_fits_and_256_tokens_more_do_not(place: Place, room: int) -> None:
    header = llama()
    n_ctx = settle(header, room * GB, place=place, n_ctx="auto").n_ctx
    assert isinstance(n_ctx, int)
    total = {n: need_of(header, ModelParams(), place, n) for n in (n_ctx, n_ctx + 256)}
    here, more = total[n_ctx], total[n_ctx + 256]
    assert here is not None
    assert more is not None
    assert here.total <= room * GB or n_ctx == place.least
    assert more.total > room * GB or n_ctx == 131_072


def test_more_room_never_gives_a_shorter_context() -> None:
    found = [settle(llama(), i * GB // 4, n_ctx="auto").asked_n_ctx for i in range(100)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (2048, 131_072)


def test_a_smaller_cache_gives_a_longer_context() -> None:
    f16 = settle(llama(), 12 * GB, n_ctx="auto").asked_n_ctx
    q8_0 = settle(llama(), 12 * GB, n_ctx="auto", type_k="q8_0", type_v="q8_0").asked_n_ctx
    assert 1.6 * f16 < q8_0 < 1.9 * f16


def test_what_was_not_asked_for_stays() -> None:
    params = ModelParams(n_ctx=777, n_batch=64, n_gpu_layers=3)
    assert settled(llama(), params, 131_072, NATIVE, GB, [gpu(1)]) == params


def test_where_nothing_is_known_it_is_as_without() -> None:
    assert settle(llama(), None, n_ctx="auto").n_ctx == 0
    mla = llama({"llama.attention.kv_lora_rank": 512})
    assert settle(mla, 100 * GB, n_ctx="auto").n_ctx == 4096
    encoder = llama({"llama.attention.causal": False})
    assert settle(encoder, 100 * GB, n_ctx="auto").n_ctx == 0


def test_a_model_that_does_not_say_its_context_gets_at_most_the_default() -> None:
    assert settled(llama(), ModelParams(n_ctx="auto"), 0, NATIVE, 100 * GB).n_ctx == 4096
    assert settled(llama(), ModelParams(n_ctx="auto"), 512, NATIVE, 0).n_ctx == 512


# layers


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("free", [0.2, 0.5, 1, 2, 3, 4, 6, 24])
def test_automatic_layers_fit_and_one_more_does_not(free: float, tied: bool) -> None:
    header, one = llama(tied=tied), gpu(free)
    layers = largest_layers(header, ModelParams(), 131_072, [one])
    room = one.free - spare(one.free)
    if layers:
        assert gpu_need(header, ModelParams(), 4096, layers, 1) <= room
    if layers <= LAYERS:
        assert gpu_need(header, ModelParams(), 4096, layers + 1, 1) > room
    else:
        assert free >= 3


def test_all_layers_are_one_more_than_the_model_has_and_minus_one_means_all() -> None:
    assert settle(llama(), 8 * GB, gpu(80), n_gpu_layers="auto").n_gpu_layers == LAYERS + 1
    assert settle(llama(), 8 * GB, n_gpu_layers="auto").n_gpu_layers == 0
    assert settle(llama(), 8 * GB, gpu(0), n_gpu_layers="auto").n_gpu_layers == 0
    share = share_of(llama(), ModelParams(), 4096, LAYERS + 1)
    assert share_of(llama(), ModelParams(), 4096, -1) == share
    assert share_of(llama(), ModelParams(), 4096, 999) == share
    assert share_of(llama(), ModelParams(), 4096, 0) == 0


def test_the_table_of_tokens_stays_with_the_cpu_unless_it_makes_the_logits() -> None:
    table = WIDTH * 128_256 * 18 // 32
    for tied in (False, True):
        assert share_of(llama(tied=tied), ModelParams(), 256, 1) == table
    everything = need_of(llama(), ModelParams(), NATIVE, 256)
    assert everything is not None
    share = share_of(llama(), ModelParams(), 256, -1)
    assert share == everything.weights + everything.cache - table


def test_two_gpus_take_more_than_one() -> None:
    one = largest_layers(llama(), ModelParams(), 131_072, [gpu(2)])
    two = largest_layers(llama(), ModelParams(), 131_072, [gpu(2), gpu(2)])
    assert 0 < one < two


def test_a_longer_context_never_drives_layers_from_the_gpu() -> None:
    """Layers first; then as much context as fits beside them."""
    for free in (3, 4, 6, 8, 24):
        alone = settle(llama(), 64 * GB, gpu(free), n_gpu_layers="auto")
        both = settle(llama(), 64 * GB, gpu(free), n_ctx="auto", n_gpu_layers="auto")
        assert both.n_gpu_layers == alone.n_gpu_layers
        share = share_of(llama(), ModelParams(), both.asked_n_ctx, both.asked_gpu_layers)
        assert share <= gpu(free).free - spare(gpu(free).free)
    assert both.n_ctx == 131_072


def test_with_all_on_the_gpu_its_memory_decides_about_the_context() -> None:
    found = settle(llama(), 64 * GB, gpu(8), n_ctx="auto", n_gpu_layers=-1)
    assert 8192 < found.asked_n_ctx < 65_536
    here = settle(llama(), 64 * GB, gpu(8), n_ctx="auto")
    assert here.n_ctx == 131_072


# what lacks, and what would fit


def test_weights_may_be_more_than_what_is_free_but_not_the_rest() -> None:
    need = MemoryNeed(weights=10 * GB, cache=2 * GB, work=GB)
    assert lacking(need, SystemMemory(16 * GB, 4 * GB)) == ""
    assert lacking(need, SystemMemory(16 * GB, 3 * GB)) == ""
    assert lacking(need, SystemMemory(16 * GB, 3 * GB - 1)) == "free"
    assert lacking(need, SystemMemory(13 * GB - 1, 13 * GB)) == "total"
    assert lacking(need, SystemMemory(16 * GB, 4 * GB), copied=2 * GB) == "free"
    assert lacking(need, SystemMemory(None, None)) == ""


def test_a_gpu_adds_its_memory() -> None:
    need = MemoryNeed(weights=20 * GB, cache=2 * GB, work=GB)
    here = SystemMemory(8 * GB, 2 * GB)
    assert lacking(need, here) == "total"
    assert lacking(need, here, gpu_total=24 * GB) == "free"
    assert lacking(need, here, gpu_total=24 * GB, cache_on_gpus=2 * GB) == ""
    assert (
        lacking(need, SystemMemory(8 * GB, GB - 1), gpu_total=24 * GB, cache_on_gpus=2 * GB)
        == "free"
    )


def test_what_would_fit_instead() -> None:
    params = ModelParams()

    def fits(room: int) -> Any:
        def check(settings: ModelParams, n_ctx: int) -> bool:
            need = need_of(llama(), settings, NATIVE, n_ctx)
            return need is not None and need.total <= room

        return check

    longest, ways = ways_out(llama(), params, 1 << 18, fits(12 * GB))
    assert 40_000 < longest < 100_000
    assert ways == [
        f"with a smaller n_ctx ({longest:,} at most)",
        f'with type_k="q8_0", type_v="q8_0" and a smaller n_ctx ({ways[1].split("(")[1].split()[0]} at most)',
    ]
    _, ways = ways_out(llama(), params, 131_072, fits(12 * GB))
    assert ways[1] == 'with type_k="q8_0", type_v="q8_0"'
    assert ways_out(llama(), params, 65_536, fits(GB)) == (0, [])


def test_a_q8_0_cache_is_offered_only_where_it_is_possible_and_smaller() -> None:
    params = ModelParams()
    assert takes_q8_0(llama(), params)
    assert not takes_q8_0(llama(), with_kv(params, "q8_0"))
    assert not takes_q8_0(llama(), with_kv(params, "q4_0"))
    assert takes_q8_0(llama(), replace(params, type_k="q8_0"))
    assert not takes_q8_0(llama({"llama.attention.key_length": 80}), params)
    assert not takes_q8_0(llama({"llama.attention.head_count": 0}), params)


def test_what_is_planned_leaves_something_to_others() -> None:
    here = SystemMemory(64 * GB, 32 * GB)
    assert planned_room(NATIVE, here) == 32 * GB - 32 * GB // 10
    assert planned_room(NATIVE, SystemMemory(GB, 100)) == 0
    assert planned_room(NATIVE, SystemMemory(64 * GB, None)) == 48 * GB - 48 * GB // 10
    assert planned_room(NATIVE, SystemMemory(None, None)) is None
    assert planned_room(WASM, here, 4 * GB) == 4 * GB - 4 * GB // 20
    assert planned_room(WASM, SystemMemory(None, None), GB) == GB - GB // 20
    assert planned_room(WASM, SystemMemory(2 * GB, GB), 4 * GB) == GB - GB // 20
    assert planned_room(WASM, here, 1 << 20) == 0
