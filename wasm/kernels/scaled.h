// What the formats share that have a scale for 32 weights: sums times scales.
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

} // namespace lb
