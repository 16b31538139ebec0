// Included before ggml's arch/wasm/quants.c, whose quantize_row_q8_0 and quantize_row_q8_1 cut the fraction off
// where the reference, and every other architecture, rounds: twice the error in every activation, and all of
// it towards zero.
#pragma once

#include <wasm_simd128.h>

static inline v128_t lb_round_to_i32x4(v128_t v) {
    return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(v));
}
#define wasm_i32x4_trunc_sat_f32x4(v) lb_round_to_i32x4(v)
