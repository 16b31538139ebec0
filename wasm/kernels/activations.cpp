#include "activations.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "ggml-impl.h"
#include "simd.h"

namespace lb {

namespace {

// The largest magnitude; NaN if there is one. Compared as integers: magnitudes are in their order, NaN above all others.
float magnitude(const float * x, int n) {
    vec m = zeros();
    for (int i = 0; i < n; i += 4) {
        m = wasm_i32x4_max(m, wasm_f32x4_abs(wasm_v128_load(x + i)));
    }
    m = wasm_i32x4_max(m, wasm_i32x4_shuffle(m, m, 2, 3, 0, 1));
    m = wasm_i32x4_max(m, wasm_i32x4_shuffle(m, m, 1, 0, 3, 2));
    return wasm_f32x4_extract_lane(m, 0);
}

// 16 values of at most 2^22, rounded to nearest, times `inverse`. Adding 1.5 * 2^23 rounds them and leaves the integer in the low
// bits: a third of the instructions that a conversion takes, and the same on every CPU.
vec round16(const float * x, vec inverse) {
    const vec magic = wasm_f32x4_splat(0x1.8p23f);
    vec r[4];
    for (int i = 0; i < 4; i++) {
        r[i] = wasm_i32x4_sub(wasm_f32x4_add(wasm_f32x4_mul(wasm_v128_load(x + 4 * i), inverse), magic), magic);
    }
    return wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(r[0], r[1]), wasm_i16x8_narrow_i32x4(r[2], r[3]));
}

// 16 values of one row, where `to` is that of the first.
void store(const activation_kind & kind, int rows, int8_t * to, vec v) {
    if (rows == 1) {
        wasm_v128_store(to, v);
        return;
    }
    if (activation_layout::is_wide(kind, rows)) {
        alignas(16) int16_t values[16];
        wasm_v128_store(values, wasm_i16x8_extend_low_i8x16(v));
        wasm_v128_store(values + 8, wasm_i16x8_extend_high_i8x16(v));
        for (int i = 0; i < 16; i += 2) {
            __builtin_memcpy(to + 2 * i * rows, values + i, 4);
        }
        return;
    }
    alignas(16) int8_t values[16];
    wasm_v128_store(values, v);
    for (int i = 0; i < 16; i += 4) {
        __builtin_memcpy(to + i * rows, values + i, 4);
    }
}

// Sums of the values in even and in odd pairs: what the two 16-bit lanes of a row add up.
vec pair_sums(vec low, vec high) {
    vec s = wasm_i16x8_add(wasm_i16x8_extadd_pairwise_i8x16(low), wasm_i16x8_extadd_pairwise_i8x16(high));
    s = wasm_i16x8_add(s, wasm_i32x4_shuffle(s, s, 2, 3, 0, 1));
    return wasm_i16x8_add(s, wasm_i32x4_shuffle(s, s, 1, 0, 3, 2));
}

constexpr float SMALLEST = 0x1p-121f; // below it 127 over it may be infinite: such values count as 0
constexpr float SMALLEST_WIDE = 0x1p-112f; // the same of 32,767

void quantize_row(const activation_kind & kind, int64_t k, int rows, int row, const float * x, char * to) {
    const activation_layout at(kind, k, rows);
    const int width = activation_layout::is_wide(kind, rows) ? 2 : 1;
    auto * values = reinterpret_cast<int8_t *>(to) + row * kind.unit * width;
    auto * scales = reinterpret_cast<float *>(to + at.scales) + row;
    auto * corrections = reinterpret_cast<int16_t *>(to + at.corrections) + 2 * row;
    auto * sums = reinterpret_cast<int16_t *>(to + at.sums) + 8 * row;
    const vec zero = wasm_i16x8_splat(static_cast<int16_t>(-kind.zero));
    for (int64_t b = 0; b < k / kind.block; b++) {
        const float * block = x + b * kind.block;
        const float largest = magnitude(block, kind.block);
        const float scale = largest / 127.0f;
        scales[b * rows] = kind.block == 32 ? GGML_FP16_TO_FP32(GGML_FP32_TO_FP16(scale)) * HALF_FACTOR : scale;
        const vec inverse = wasm_f32x4_splat(largest > SMALLEST ? 127.0f / largest : 0.0f);
        const vec finite = wasm_i8x16_splat(largest <= FLT_MAX ? -1 : 0); // in other blocks each code is 0; the scale says the rest
        for (int i = 0; i < kind.block; i += 32) {
            const int64_t position = b * kind.block + i;
            vec low = wasm_v128_and(round16(block + i, inverse), finite);
            vec high = wasm_v128_and(round16(block + i + 16, inverse), finite);
            if (kind.by_sign) {
                int8_t * below = values + at.below + position * rows;
                store(kind, rows, below, wasm_i8x16_max(wasm_i8x16_neg(low), zeros()));
                store(kind, rows, below + 16 * rows, wasm_i8x16_max(wasm_i8x16_neg(high), zeros()));
                low = wasm_i8x16_max(low, zeros());
                high = wasm_i8x16_max(high, zeros());
            }
            store(kind, rows, values + position * rows * width, low);
            store(kind, rows, values + (position + 16) * rows * width, high);
            if (kind.zero != 0 && kind.sub == 32) {
                wasm_v128_store32_lane(corrections + position / 32 * rows * 2, wasm_i16x8_mul(pair_sums(low, high), zero), 0);
            } else if (kind.zero != 0) {
                const int64_t sub = position / 16 * rows * 2;
                wasm_v128_store32_lane(corrections + sub, wasm_i16x8_mul(pair_sums(low, zeros()), zero), 0);
                wasm_v128_store32_lane(corrections + sub + 2 * rows, wasm_i16x8_mul(pair_sums(high, zeros()), zero), 0);
            }
            if (kind.sums) {
                const vec s = pair_sums(low, high);
                sums[b * rows * 8 + i / 32] = static_cast<int16_t>(wasm_i16x8_extract_lane(s, 0) + wasm_i16x8_extract_lane(s, 1));
            }
        }
    }
}

// The sum of the magnitudes over `MAX_SUM`, without an overflow.
constexpr float MAX_SUM = 65000.0f;

float scaled_sum(const float * x, int n) {
    vec sum = zeros();
    for (int i = 0; i < n; i += 4) {
        sum = wasm_f32x4_add(sum, wasm_f32x4_mul(wasm_f32x4_abs(wasm_v128_load(x + i)), wasm_f32x4_const_splat(1.0f / MAX_SUM)));
    }
    return sum_of(sum);
}

// Sixteen bits. The magnitudes of a block's codes add up to 65,016 at most, so products with weights below 2^15 fit in 32 bits.
void widen_row(const activation_kind & kind, int64_t k, int rows, int row, const float * x, char * to) {
    auto * values = to + 4 * row;
    auto * scales = reinterpret_cast<float *>(to + activation_layout(kind, k, rows).scales) + row;
    const vec magic = wasm_f32x4_const_splat(0x1.8p23f);
    for (int64_t b = 0; b < k / 32; b++) {
        const float * block = x + 32 * b;
        const float largest = magnitude(block, 32);
        const bool finite = largest <= FLT_MAX;
        const float scale = std::max(scaled_sum(block, 32), largest / 32767.0f);
        scales[b * rows] = finite ? scale : NAN;
        const vec inverse = wasm_f32x4_splat(finite && largest > SMALLEST_WIDE ? 1.0f / scale : 0.0f);
        for (int i = 0; i < 32; i += 8) {
            vec r[2];
            for (int j = 0; j < 2; j++) {
                r[j] = wasm_i32x4_sub(wasm_f32x4_add(wasm_f32x4_mul(wasm_v128_load(block + i + 4 * j), inverse), magic), magic);
            }
            const vec codes = wasm_v128_and(wasm_i16x8_narrow_i32x4(r[0], r[1]), wasm_i16x8_splat(finite ? -1 : 0));
            if (rows == 1) {
                wasm_v128_store(values + 2 * (32 * b + i), codes);
                continue;
            }
            char * unit = values + 8 * (32 * b + i);
            wasm_v128_store32_lane(unit, codes, 0);
            wasm_v128_store32_lane(unit + 16, codes, 1);
            wasm_v128_store32_lane(unit + 32, codes, 2);
            wasm_v128_store32_lane(unit + 48, codes, 3);
        }
    }
}

} // namespace

void prepare_activations(const activation_kind & kind, int64_t k, int rows, const float * const * from, void * to) {
    for (int row = 0; row < rows; row++) {
        (kind.wide ? widen_row : quantize_row)(kind, k, rows, row, from[row], static_cast<char *>(to));
    }
}

} // namespace lb
