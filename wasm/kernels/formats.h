// What the files of one kind of format share.
#pragma once

#include "packed.h"
#include "simd.h"

namespace lb {

constexpr activation_kind F16_ACTIVATIONS = {32, 2, 0, 32, false, true, false};
constexpr activation_kind Q4_0_ACTIVATIONS = {32, 4, 8, 32, false, false, false};
constexpr activation_kind Q5_0_ACTIVATIONS = {32, 4, 16, 32, false, false, false};
constexpr activation_kind Q8_0_ACTIVATIONS = {32, 2, 0, 32, false, false, false};
constexpr activation_kind Q8_0_FOURS_ACTIVATIONS = {32, 4, 0, 32, false, false, true};
constexpr activation_kind Q4_K_ACTIVATIONS = {256, 4, 0, 32, true, false, false};
constexpr activation_kind Q5_K_ACTIVATIONS = {256, 4, 16, 32, true, false, false};
constexpr activation_kind Q6_K_ACTIVATIONS = {256, 4, 32, 16, false, false, false};

extern const format F16, Q4_0, Q5_0, Q8_0, Q4_K, Q5_K, Q6_K;

// Results of eight rows for four of activations: sums[2 * a] and sums[2 * a + 1] belong to to[a].
inline void load_sums(bool first, float * const * to, vec * sums) {
    for (int i = 0; i < 8; i++) {
        sums[i] = first ? zeros() : wasm_v128_load(to[i / 2] + 4 * (i % 2));
    }
}

inline void store_sums(float * const * to, const vec * sums) {
    for (int i = 0; i < 8; i++) {
        wasm_v128_store(to[i / 2] + 4 * (i % 2), sums[i]);
    }
}

} // namespace lb
