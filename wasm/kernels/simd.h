// The few SIMD operations that all kernels are made of, by names that say what they are for.
//
// Two habits of the compilers that run this, found by reading their output: wasmtime's keeps loads in the order
// they are written and sinks arithmetic to its use, so an unrolled block turns into all loads, spills, then all
// arithmetic. Hence small loops that are not unrolled (LB_ROLLED) around pointers that are bumped behind an empty
// asm (LB_STEP), and broadcasts by shuffles of one load rather than by many loads.
#pragma once

#include <stdint.h>
#include <wasm_simd128.h>

#define LB_ROLLED _Pragma("clang loop unroll(disable)")
#define LB_STEP(a, b) __asm__ volatile("" : "+r"(a), "+r"(b))

namespace lb {

using vec = v128_t;

inline vec zeros() {
    return wasm_i32x4_const_splat(0);
}

// One 32-bit lane in all four.
template <int lane> inline vec spread(vec v) {
    return wasm_i32x4_shuffle(v, v, lane, lane, lane, lane);
}

// Products of bytes are added up in pairs, at 16 bits, or in fours, at 32. The integers are the same in the end, and which is faster
// depends on the CPU and the engine: see docs/performance.md.
enum byte_sums : int32_t { PAIRS, FOURS };

#ifdef __wasm_relaxed_simd__ // only where kernels.cmake says so
// acc plus the sums of products. `codes` are at most 127: within that the instructions are exact and the same on every CPU. Sums of
// pairs wrap around at 16 bits; callers see to it that the last one fits.
template <byte_sums by> inline vec add_dot(vec acc, vec signed_bytes, vec codes) {
    if constexpr (by == PAIRS) {
        return wasm_i16x8_add(acc, wasm_i16x8_relaxed_dot_i8x16_i7x16(signed_bytes, codes));
    }
    return wasm_i32x4_relaxed_dot_i8x16_i7x16_add(signed_bytes, codes, acc);
}
#endif

// Of sums in pairs, which is what the corrections of activations are: what sums begin with.
template <byte_sums by> inline vec begun(vec pairs) {
    return by == PAIRS ? pairs : wasm_i32x4_extadd_pairwise_i16x8(pairs);
}

// Sums that are complete, at 32 bits.
template <byte_sums by> inline vec complete(vec sums) {
    return by == PAIRS ? wasm_i32x4_extadd_pairwise_i16x8(sums) : sums;
}

inline vec add_dot16(vec acc, vec a, vec b) {
    return wasm_i32x4_add(acc, wasm_i32x4_dot_i16x8(a, b));
}

// acc plus complete sums times integer scales, which are there twice, at 16 bits.
template <byte_sums by> inline vec add_times(vec acc, vec sums, vec scales) {
    return by == PAIRS ? add_dot16(acc, sums, scales) : wasm_i32x4_add(acc, wasm_i32x4_mul(sums, wasm_i32x4_shr(scales, 16)));
}

// Two instructions, not relaxed_madd: that is fused on one CPU and not on the next, and results would differ. What it
// costs is in docs/performance.md: a tenth of the prefill of long prompts, nothing of short ones.
inline vec multiply_add(vec a, vec b, vec acc) {
    return wasm_f32x4_add(acc, wasm_f32x4_mul(a, b));
}

inline vec multiply_subtract(vec a, vec b, vec acc) {
    return wasm_f32x4_sub(acc, wasm_f32x4_mul(a, b));
}

// What small_halves() gives has to be multiplied with. The largest number at half precision times this is still finite.
constexpr float HALF_FACTOR = 0x1p112f;

// Four half-precision numbers, subnormal ones too, over HALF_FACTOR. Infinities and NaN come out as numbers.
inline vec small_halves(const void * p) {
    return wasm_v128_and(wasm_i32x4_shl(wasm_i32x4_load16x4(p), 13), wasm_i32x4_const_splat((int) 0x8fffe000));
}

// Four half-precision numbers, whatever they are: attention masks hold infinities.
inline vec exact_halves(const void * p) {
    const vec h = wasm_i32x4_shl(wasm_i32x4_load16x4(p), 13);
    const vec exponent = wasm_v128_and(h, wasm_i32x4_const_splat(0x0f800000));
    const vec special = wasm_i32x4_eq(exponent, wasm_i32x4_const_splat(0x0f800000));
    const vec number = wasm_f32x4_mul(wasm_v128_and(h, wasm_i32x4_const_splat((int) 0x8fffe000)), wasm_f32x4_const_splat(0x1p112f));
    return wasm_v128_or(number, wasm_v128_and(special, wasm_i32x4_const_splat(0x7f800000)));
}

// Four rows as columns.
inline void transpose(const vec * r, vec * to) {
    const vec a = wasm_i32x4_shuffle(r[0], r[1], 0, 4, 1, 5), b = wasm_i32x4_shuffle(r[2], r[3], 0, 4, 1, 5);
    const vec c = wasm_i32x4_shuffle(r[0], r[1], 2, 6, 3, 7), d = wasm_i32x4_shuffle(r[2], r[3], 2, 6, 3, 7);
    to[0] = wasm_i64x2_shuffle(a, b, 0, 2);
    to[1] = wasm_i64x2_shuffle(a, b, 1, 3);
    to[2] = wasm_i64x2_shuffle(c, d, 0, 2);
    to[3] = wasm_i64x2_shuffle(c, d, 1, 3);
}

// Eight rows of eight 16-bit values as columns.
inline void transpose16(const vec * r, vec * to) {
    vec a[8], b[8];
    for (int i = 0; i < 4; i++) { // pairs of rows, then of pairs
        a[2 * i] = wasm_i16x8_shuffle(r[2 * i], r[2 * i + 1], 0, 8, 1, 9, 2, 10, 3, 11);
        a[2 * i + 1] = wasm_i16x8_shuffle(r[2 * i], r[2 * i + 1], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            b[4 * i + 2 * j] = wasm_i32x4_shuffle(a[4 * i + j], a[4 * i + 2 + j], 0, 4, 1, 5);
            b[4 * i + 2 * j + 1] = wasm_i32x4_shuffle(a[4 * i + j], a[4 * i + 2 + j], 2, 6, 3, 7);
        }
    }
    for (int i = 0; i < 4; i++) {
        to[2 * i] = wasm_i64x2_shuffle(b[i], b[4 + i], 0, 2);
        to[2 * i + 1] = wasm_i64x2_shuffle(b[i], b[4 + i], 1, 3);
    }
}

#ifdef __wasm_relaxed_simd__
// s[2 * r] and s[2 * r + 1] += lane r of v, four activations, times w0 and w1, four codes each of four rows.
template <byte_sums by> inline void add_dots(vec v, vec w0, vec w1, vec * s) {
    s[0] = add_dot<by>(s[0], spread<0>(v), w0);
    s[1] = add_dot<by>(s[1], spread<0>(v), w1);
    s[2] = add_dot<by>(s[2], spread<1>(v), w0);
    s[3] = add_dot<by>(s[3], spread<1>(v), w1);
    s[4] = add_dot<by>(s[4], spread<2>(v), w0);
    s[5] = add_dot<by>(s[5], spread<2>(v), w1);
    s[6] = add_dot<by>(s[6], spread<3>(v), w0);
    s[7] = add_dot<by>(s[7], spread<3>(v), w1);
}
#endif

#ifdef __wasm_relaxed_simd__
// The same for the first `rows` lanes.
template <byte_sums by, int rows> inline void add_dots_of(vec v, vec w0, vec w1, vec * s) {
    const vec a[4] = {spread<0>(v), spread<1>(v), spread<2>(v), spread<3>(v)};
    for (int i = 0; i < rows; i++) {
        s[2 * i] = add_dot<by>(s[2 * i], a[i], w0);
        s[2 * i + 1] = add_dot<by>(s[2 * i + 1], a[i], w1);
    }
}
#endif

// e to the power of x is what this returns times 2 to the power of n; NaN of NaN. x from -104 to 89.
inline vec exponential_parts(vec x, vec & n) {
    // Added to a small number, this leaves the nearest integer in the low bits.
    const vec rounder = wasm_f32x4_const_splat(0x1.8p23f);
    const vec t = multiply_add(x, wasm_f32x4_const_splat(0x1.715476p+0f), rounder);
    const vec whole = wasm_f32x4_sub(t, rounder);
    n = wasm_i32x4_sub(t, rounder);
    // The remainder, with ln 2 in two parts: the first has few bits, so that its multiples are exact.
    vec r = multiply_subtract(whole, wasm_f32x4_const_splat(0x1.62e4p-1f), x);
    r = multiply_subtract(whole, wasm_f32x4_const_splat(0x1.7f7d1cp-20f), r);
    // Taylor's series: on [-ln(2) / 2, ln(2) / 2] the first term left out is below 2^-26.
    vec p = wasm_f32x4_const_splat(1.0f / 5040);
    p = multiply_add(p, r, wasm_f32x4_const_splat(1.0f / 720));
    p = multiply_add(p, r, wasm_f32x4_const_splat(1.0f / 120));
    p = multiply_add(p, r, wasm_f32x4_const_splat(1.0f / 24));
    p = multiply_add(p, r, wasm_f32x4_const_splat(1.0f / 6));
    p = multiply_add(p, r, wasm_f32x4_const_splat(0.5f));
    p = multiply_add(p, r, wasm_f32x4_const_splat(1.0f));
    return multiply_add(p, r, wasm_f32x4_const_splat(1.0f));
}

// 2 to the power of n, from -126 to 127.
inline vec power_of_two(vec n) {
    return wasm_i32x4_shl(wasm_i32x4_add(n, wasm_i32x4_const_splat(127)), 23);
}

// e to the power of x, to within 2 units in the last place; 0 below -104, infinity above 89, NaN of NaN.
inline vec exponential(vec x) {
    const vec bounded = wasm_f32x4_pmax(wasm_f32x4_pmin(x, wasm_f32x4_const_splat(89.0f)), wasm_f32x4_const_splat(-104.0f));
    vec n;
    const vec p = exponential_parts(bounded, n);
    // Two factors: one alone would overflow, or lose a subnormal result.
    const vec half = wasm_i32x4_shr(n, 1);
    return wasm_f32x4_mul(wasm_f32x4_mul(p, power_of_two(half)), power_of_two(wasm_i32x4_sub(n, half)));
}

// The same of what is not above 0, but 0 below -86: next to a 1 that is nothing.
inline vec exponential_up_to_one(vec x) {
    const vec least = wasm_f32x4_const_splat(-86.0f);
    vec n;
    const vec p = exponential_parts(wasm_f32x4_pmax(x, least), n);
    return wasm_v128_andnot(wasm_f32x4_mul(p, power_of_two(n)), wasm_f32x4_lt(x, least));
}

inline float sum_of(vec v) {
    v = wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2)), 0);
}

inline float largest_of(vec v) {
    v = wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2)), 0);
}

} // namespace lb
