// Q4_0 and Q5_0: a scale for 32 weights.
#include <string.h>

#include <algorithm>

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "formats.h"
#include "scaled.h"
#include "simd.h"

namespace lb {

namespace {

// Eight scales, 8 vectors of nibbles, and for Q5_0 the fifth bits of all in 2 vectors.
//
// A byte of words is value 4 * j + i in its low half and 16 + 4 * j + i in its high half.
template <bool five> struct small_block {
    uint16_t scales[GROUP];
    uint8_t words[4][GROUP][4];
    uint8_t fifth[five ? GROUP : 0][4]; // bit j: of the low half of word j; bit 4 + j: of its high half
};

template <typename block> constexpr bool has_fifth = sizeof(block) == sizeof(block_q5_0);

void pack_fifth(const uint8_t * from, uint8_t * to) {
    uint32_t bits;
    memcpy(&bits, from, 4);
    for (int i = 0; i < 4; i++) {
        uint32_t byte = 0;
        for (int j = 0; j < 8; j++) {
            byte |= (bits >> (4 * j + i) & 1) << j;
        }
        to[i] = static_cast<uint8_t>(byte);
    }
}

template <typename block> void pack_small(const uint8_t * from, size_t stride, uint8_t * to) {
    constexpr bool five = has_fifth<block>;
    auto & packed = *reinterpret_cast<small_block<five> *>(to);
    for (int half = 0; half < 2; half++) {
        vec rows[4], columns[4];
        for (int i = 0; i < 4; i++) {
            const auto & row = *reinterpret_cast<const block *>(from + static_cast<size_t>(4 * half + i) * stride);
            packed.scales[4 * half + i] = row.d;
            rows[i] = wasm_v128_load(row.qs);
            if constexpr (five) {
                pack_fifth(row.qh, packed.fifth[4 * half + i]);
            }
        }
        transpose(rows, columns);
        for (int j = 0; j < 4; j++) {
            wasm_v128_store(packed.words[j][4 * half], columns[j]);
        }
    }
}

template <typename block> void unpack_small(const uint8_t * from, int r, uint8_t * to) {
    constexpr bool five = has_fifth<block>;
    const auto & packed = *reinterpret_cast<const small_block<five> *>(from);
    auto & row = *reinterpret_cast<block *>(to);
    row.d = packed.scales[r];
    for (int j = 0; j < 4; j++) {
        memcpy(row.qs + 4 * j, packed.words[j][r], 4);
    }
    if constexpr (five) {
        uint32_t bits = 0;
        for (int i = 0; i < 4; i++) {
            for (int j = 0; j < 8; j++) {
                bits |= static_cast<uint32_t>(packed.fifth[r][i] >> j & 1) << (4 * j + i);
            }
        }
        memcpy(row.qh, &bits, 4);
    }
}

// Word j of the low halves, or of the high ones, with the fifth bit at its place.
template <bool five, int j> inline vec low_codes(vec words, vec fifth) {
    const vec codes = wasm_v128_and(words, wasm_i8x16_const_splat(0x0f));
    if constexpr (!five) {
        return codes;
    }
    return wasm_v128_or(codes, wasm_v128_and(wasm_i16x8_shl(fifth, 4 - j), wasm_i8x16_const_splat(0x10)));
}

template <bool five, int j> inline vec high_codes(vec words, vec fifth) {
    const vec codes = wasm_v128_and(wasm_u16x8_shr(words, 4), wasm_i8x16_const_splat(0x0f));
    if constexpr (!five) {
        return codes;
    }
    return wasm_v128_or(codes, wasm_v128_and(wasm_u16x8_shr(fifth, j), wasm_i8x16_const_splat(0x10)));
}

template <byte_sums by> inline vec scaled(vec sums, vec scales, vec acc) {
    return multiply_add(wasm_f32x4_convert_i32x4(complete<by>(sums)), scales, acc);
}

template <byte_sums by, bool five> void gemv_small(int64_t k, const uint8_t * weights, const char * activations, float * to) {
    using packed = small_block<five>;
    const activation_layout at(five ? Q5_0_ACTIVATIONS : Q4_0_ACTIVATIONS, k, 1);
    const char * y = activations;
    const char * const end = y + k;
    const char * scales = activations + at.scales;       // and the corrections, as many bytes further on
    const size_t to_corrections = at.corrections - at.scales;
    vec a0 = zeros(), a1 = zeros();
    LB_ROLLED do {
        const vec low = wasm_v128_load(y), high = wasm_v128_load(y + 16);
        vec q0 = begun<by>(wasm_v128_load32_splat(scales + to_corrections)), q1 = q0;
        const vec f0 = five ? wasm_v128_load(weights + offsetof(packed, fifth)) : zeros();
        const vec f1 = five ? wasm_v128_load(weights + offsetof(packed, fifth) + 16) : zeros();
#define STEP(j)                                                                        \
    {                                                                                  \
        const vec w0 = wasm_v128_load(weights + offsetof(packed, words) + 32 * j);      \
        q0 = add_dot<by>(q0, spread<j>(low), low_codes<five, j>(w0, f0));                  \
        q0 = add_dot<by>(q0, spread<j>(high), high_codes<five, j>(w0, f0));                \
        const vec w1 = wasm_v128_load(weights + offsetof(packed, words) + 32 * j + 16); \
        q1 = add_dot<by>(q1, spread<j>(low), low_codes<five, j>(w1, f1));                  \
        q1 = add_dot<by>(q1, spread<j>(high), high_codes<five, j>(w1, f1));                \
    }
        STEP(0) STEP(1) STEP(2) STEP(3)
#undef STEP
        const vec d = wasm_v128_load32_splat(scales);
        a0 = scaled<by>(q0, wasm_f32x4_mul(small_halves(weights), d), a0);
        a1 = scaled<by>(q1, wasm_f32x4_mul(small_halves(weights + 8), d), a1);
        y += 32;
        scales += 4;
        weights += sizeof(packed);
        LB_STEP(y, weights);
    } while (y != end);
    wasm_v128_store(to, a0);
    wasm_v128_store(to + 4, a1);
}

// Codes as bytes, in the order of the values, and scales in single precision.
struct expanded_block {
    uint8_t codes[8][GROUP][4];
};

template <bool five> void expand(const uint8_t * weights, int64_t n, expanded_block * codes, float * scales) {
    using packed = small_block<five>;
    LB_ROLLED for (int64_t b = 0; b < n; b++) {
        LB_ROLLED for (int half = 0; half < 2; half++) {
            const uint8_t * from = weights + offsetof(packed, words) + 16 * half;
            const vec f = five ? wasm_v128_load(weights + offsetof(packed, fifth) + 16 * half) : zeros();
            uint8_t * to = &codes->codes[0][0][0] + 16 * half;
#define STEP(j)                                                              \
    {                                                                        \
        const vec w = wasm_v128_load(from + 32 * j);                         \
        wasm_v128_store(to + 32 * j, low_codes<five, j>(w, f));              \
        wasm_v128_store(to + 32 * (4 + j), high_codes<five, j>(w, f));       \
    }
            STEP(0) STEP(1) STEP(2) STEP(3)
#undef STEP
            wasm_v128_store(scales + 4 * half, small_halves(weights + 8 * half));
        }
        weights += sizeof(packed);
        codes += 1;
        scales += GROUP;
    }
}

// Eight rows of weights times four of activations, over n blocks, added to `sums`.
template <byte_sums by>
inline void tile_small(int64_t n, const uint8_t * codes, const float * weight_scales, const char * y,
                       const char * scales, const char * corrections, vec * sums) {
    vec f[8];
    for (int i = 0; i < 8; i++) {
        f[i] = sums[i];
    }
    LB_ROLLED for (int64_t b = 0; b < n; b++) {
        vec q[8];
        for (int a = 0; a < 4; a++) {
            q[2 * a] = q[2 * a + 1] = begun<by>(wasm_v128_load32_splat(corrections + 4 * a));
        }
        const char * const end = y + 128;
        LB_ROLLED do {
            const vec v = wasm_v128_load(y), w0 = wasm_v128_load(codes), w1 = wasm_v128_load(codes + 16);
            add_dots<by>(v, w0, w1, q);
            y += 16;
            codes += 32;
            LB_STEP(y, codes);
        } while (y != end);
        const vec d0 = wasm_v128_load(weight_scales), d1 = wasm_v128_load(weight_scales + 4), d = wasm_v128_load(scales);
        add_scaled<scaled<by>>(q, d0, d1, d, f);
        weight_scales += GROUP;
        scales += 16;
        corrections += 16;
    }
    for (int i = 0; i < 8; i++) {
        sums[i] = f[i];
    }
}

enum { CHUNK = 64 }; // blocks expanded at a time: their codes, 16 KiB, stay in the first-level cache

template <byte_sums by, bool five>
void gemm_small(int64_t k, int64_t start, int64_t end, const uint8_t * weights, const char * activations, size_t group_size,
                int64_t n, float * const * to, char * scratch) {
    const activation_layout at(five ? Q5_0_ACTIVATIONS : Q4_0_ACTIVATIONS, k, 4);
    auto * codes = reinterpret_cast<expanded_block *>(scratch);
    auto * scales = reinterpret_cast<float *>(codes + CHUNK);
    static_assert(sizeof(expanded_block) * CHUNK + sizeof(float) * GROUP * CHUNK <= SCRATCH_SIZE, "");
    for (int64_t first = start / 32; first < end / 32; first += CHUNK) {
        const int64_t count = std::min<int64_t>(end / 32 - first, CHUNK);
        expand<five>(weights + static_cast<size_t>(first) * sizeof(small_block<five>), count, codes, scales);
        for (int64_t i = 0; i < n; i++) {
            const char * group = activations + static_cast<size_t>(i) * group_size;
            vec sums[8];
            load_sums(first == 0, to + 4 * i, sums);
            tile_small<by>(count, &codes->codes[0][0][0], scales, group + first * 128, group + at.scales + first * 16,
                       group + at.corrections + first * 16, sums);
            store_sums(to + 4 * i, sums);
        }
    }
}

// The same of the first rows of a group, straight from the packed weights.
template <byte_sums by, bool five, int rows> void few_small(int64_t k, const uint8_t * weights, const char * activations, float * const * to) {
    using packed = small_block<five>;
    const activation_layout at(five ? Q5_0_ACTIVATIONS : Q4_0_ACTIVATIONS, k, 4);
    const char * y = activations;
    const char * const last = y + 4 * k;
    const char * scales = activations + at.scales; // and the corrections, as many bytes further on
    const size_t to_corrections = at.corrections - at.scales;
    const vec low_half = wasm_i8x16_const_splat(0x0f), bit = wasm_i8x16_const_splat(0x10);
    vec f[2 * rows];
    for (int i = 0; i < 2 * rows; i++) {
        f[i] = zeros();
    }
    LB_ROLLED do {
        vec q[2 * rows];
        for (int a = 0; a < rows; a++) {
            q[2 * a] = q[2 * a + 1] = begun<by>(wasm_v128_load32_splat(scales + to_corrections + 4 * a));
        }
        vec b0 = five ? wasm_v128_load(weights + offsetof(packed, fifth)) : zeros();
        vec b1 = five ? wasm_v128_load(weights + offsetof(packed, fifth) + 16) : zeros();
        const uint8_t * words = weights + offsetof(packed, words);
        const char * const end = y + 64;
        LB_ROLLED do {
            const vec w0 = wasm_v128_load(words), w1 = wasm_v128_load(words + 16);
            vec l0 = wasm_v128_and(w0, low_half), l1 = wasm_v128_and(w1, low_half);
            vec h0 = wasm_v128_and(wasm_u16x8_shr(w0, 4), low_half), h1 = wasm_v128_and(wasm_u16x8_shr(w1, 4), low_half);
            if constexpr (five) { // the fifth bits of this word are at bits 0 and 4
                l0 = wasm_v128_or(l0, wasm_v128_and(wasm_i16x8_shl(b0, 4), bit));
                l1 = wasm_v128_or(l1, wasm_v128_and(wasm_i16x8_shl(b1, 4), bit));
                h0 = wasm_v128_or(h0, wasm_v128_and(b0, bit));
                h1 = wasm_v128_or(h1, wasm_v128_and(b1, bit));
                b0 = wasm_u16x8_shr(b0, 1);
                b1 = wasm_u16x8_shr(b1, 1);
            }
            add_dots_of<by, rows>(wasm_v128_load(y), l0, l1, q);
            add_dots_of<by, rows>(wasm_v128_load(y + 64), h0, h1, q);
            y += 16;
            words += 32;
            LB_STEP(y, words);
        } while (y != end);
        add_scaled_of<scaled<by>, rows>(q, small_halves(weights), small_halves(weights + 8), wasm_v128_load(scales), f);
        y += 64;
        scales += 16;
        weights += sizeof(packed);
        LB_STEP(y, weights);
    } while (y != last);
    store_rows<rows>(f, to);
}

template <byte_sums by, bool five>
void few_small(int64_t k, const uint8_t * weights, const char * activations, int rows, float * const * to) {
    (rows == 2 ? few_small<by, five, 2> : rows == 3 ? few_small<by, five, 3> : few_small<by, five, 4>)(k, weights, activations, to);
}

template <byte_sums by, bool five> constexpr kernels SMALL = {five ? Q5_0_ACTIVATIONS : Q4_0_ACTIVATIONS, gemv_small<by, five>, gemm_small<by, five>,
                                                              few_small<by, five>};

} // namespace

const format Q4_0 = {GGML_TYPE_Q4_0,         32,                       sizeof(block_q4_0),                              sizeof(small_block<false>),
                     pack_small<block_q4_0>, unpack_small<block_q4_0>, {SMALL<PAIRS, false>, SMALL<FOURS, false>}, FEW_GROUPS};
const format Q5_0 = {GGML_TYPE_Q5_0,         32,                       sizeof(block_q5_0),                            sizeof(small_block<true>),
                     pack_small<block_q5_0>, unpack_small<block_q5_0>, {SMALL<PAIRS, true>, SMALL<FOURS, true>}, 1};

} // namespace lb
