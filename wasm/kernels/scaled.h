// What the formats share that have a scale for 32 weights: sums times scales; and products of 16-bit values, for Q8_0 and F16.
#pragma once

#include "simd.h"

namespace lb {

// Sums of eight rows times four of activations: f += q, times the scales of the rows and lane a of those of the activations.
template <vec (*scaled)(vec, vec, vec)> inline void add_scaled(const vec * q, vec d0, vec d1, vec d, vec * f) {
    f[0] = scaled(q[0], wasm_f32x4_mul(d0, spread<0>(d)), f[0]);
    f[1] = scaled(q[1], wasm_f32x4_mul(d1, spread<0>(d)), f[1]);
    f[2] = scaled(q[2], wasm_f32x4_mul(d0, spread<1>(d)), f[2]);
    f[3] = scaled(q[3], wasm_f32x4_mul(d1, spread<1>(d)), f[3]);
    f[4] = scaled(q[4], wasm_f32x4_mul(d0, spread<2>(d)), f[4]);
    f[5] = scaled(q[5], wasm_f32x4_mul(d1, spread<2>(d)), f[5]);
    f[6] = scaled(q[6], wasm_f32x4_mul(d0, spread<3>(d)), f[6]);
    f[7] = scaled(q[7], wasm_f32x4_mul(d1, spread<3>(d)), f[7]);
}

// The same for the first rows of activations.
template <vec (*scaled)(vec, vec, vec), int rows> inline void add_scaled_of(const vec * q, vec d0, vec d1, vec d, vec * f) {
    const vec a[4] = {spread<0>(d), spread<1>(d), spread<2>(d), spread<3>(d)};
    for (int i = 0; i < rows; i++) {
        f[2 * i] = scaled(q[2 * i], wasm_f32x4_mul(d0, a[i]), f[2 * i]);
        f[2 * i + 1] = scaled(q[2 * i + 1], wasm_f32x4_mul(d1, a[i]), f[2 * i + 1]);
    }
}

template <int rows> inline void store_rows(const vec * f, float * const * to) {
    for (int a = 0; a < rows; a++) {
        wasm_v128_store(to[a], f[2 * a]);
        wasm_v128_store(to[a] + 4, f[2 * a + 1]);
    }
}

inline vec scaled32(vec sums, vec scales, vec acc) {
    return multiply_add(wasm_f32x4_convert_i32x4(sums), scales, acc);
}

// Products of a pair of values of eight rows and of the first `rows` of four of activations: added to q, or, first of a block, set.
template <bool first, int rows> inline void add_pairs(vec w0, vec w1, const char * y, vec * q) {
    const vec v = wasm_v128_load(y);
    const vec a[4] = {spread<0>(v), spread<1>(v), spread<2>(v), spread<3>(v)};
    for (int i = 0; i < rows; i++) {
        q[2 * i] = first ? wasm_i32x4_dot_i16x8(w0, a[i]) : add_dot16(q[2 * i], w0, a[i]);
        q[2 * i + 1] = first ? wasm_i32x4_dot_i16x8(w1, a[i]) : add_dot16(q[2 * i + 1], w1, a[i]);
    }
}

// Eight rows of weights, as pairs, times four of activations, over n blocks, added to `sums`. Blocks of weights are `gap` bytes apart.
template <int gap> inline void tile_pairs(int64_t n, const uint8_t * weights, const float * weight_scales, const char * y, const char * scales, vec * sums) {
    vec f[8];
    for (int i = 0; i < 8; i++) {
        f[i] = sums[i];
    }
    LB_ROLLED for (int64_t b = 0; b < n; b++) {
        vec q[8];
        const char * const end = y + 256;
        add_pairs<true, 4>(wasm_v128_load(weights), wasm_v128_load(weights + 16), y, q);
        y += 16;
        weights += 32;
        LB_ROLLED do {
            LB_STEP(y, weights);
            add_pairs<false, 4>(wasm_v128_load(weights), wasm_v128_load(weights + 16), y, q);
            y += 16;
            weights += 32;
        } while (y != end);
        const vec d0 = wasm_v128_load(weight_scales), d1 = wasm_v128_load(weight_scales + 4), d = wasm_v128_load(scales);
        add_scaled<scaled32>(q, d0, d1, d, f);
        weights += gap;
        weight_scales += 8;
        scales += 16;
    }
    for (int i = 0; i < 8; i++) {
        sums[i] = f[i];
    }
}

} // namespace lb
