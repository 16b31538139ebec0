// Q4_K, Q5_K and Q6_K: a scale for 256 weights, and small integer scales for 32 or 16 of them.
//
// Sums of products at 16 bits are multiplied by the integer scales as they are widened to 32, so the scales cost
// nothing. All integers are exact; single precision begins with the scales of 256.
#include <string.h>

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"
#include "ggml-impl.h"

#include "formats.h"
#include "simd.h"

namespace lb {

namespace {

// Lane pairs (a0 b0 a1 b1 ...) as (a0 a0 a1 a1 ...) and (b0 b0 b1 b1 ...).
inline vec evens(vec v) {
    return wasm_i16x8_shuffle(v, v, 0, 0, 2, 2, 4, 4, 6, 6);
}
inline vec odds(vec v) {
    return wasm_i16x8_shuffle(v, v, 1, 1, 3, 3, 5, 5, 7, 7);
}
// Each of the four low, or high, lanes twice.
inline vec doubled_low(vec v) {
    return wasm_i16x8_shuffle(v, v, 0, 0, 1, 1, 2, 2, 3, 3);
}
inline vec doubled_high(vec v) {
    return wasm_i16x8_shuffle(v, v, 4, 4, 5, 5, 6, 6, 7, 7);
}

inline vec scaled(vec sums, vec scales, vec acc) {
    return multiply_add(wasm_f32x4_convert_i32x4(sums), scales, acc);
}

// --- Q4_K and Q5_K

// A byte of words[c] is value 64 * c + 4 * j + i in its low half and 32 more in its high half.
template <bool five> struct middle_block {
    float scales[GROUP], minima[GROUP]; // single precision: most would be subnormal at half, which is slow
    uint8_t small_scales[4][GROUP][2];  // of values 64 * c and of 64 * c + 32
    uint8_t small_minima[4][GROUP][2];
    uint8_t words[4][8][GROUP][4];
    uint8_t fifth[five ? 8 : 0][GROUP][4]; // bit 2 * c: of the low half of words[c][j]; bit 2 * c + 1: of the high half
};

template <typename block> constexpr bool has_fifth = sizeof(block) == sizeof(block_q5_K);

// 12 bytes hold eight 6-bit scales and eight minima: four of each in the low bits of bytes 0 to 7, the low halves of
// the others in bytes 8 to 11, and their high bits on top of bytes 0 to 7.
void split_scales(const uint8_t * from, int i, uint8_t & scale, uint8_t & minimum) {
    if (i < 4) {
        scale = from[i] & 63;
        minimum = from[i + 4] & 63;
    } else {
        scale = static_cast<uint8_t>((from[i + 4] & 15) | (from[i - 4] >> 6) << 4);
        minimum = static_cast<uint8_t>((from[i + 4] >> 4) | (from[i] >> 6) << 4);
    }
}

void join_scales(uint8_t * to, int i, uint8_t scale, uint8_t minimum) {
    if (i < 4) {
        to[i] = static_cast<uint8_t>(to[i] | scale);
        to[i + 4] = static_cast<uint8_t>(to[i + 4] | minimum);
    } else {
        to[i + 4] = static_cast<uint8_t>((scale & 15) | (minimum & 15) << 4);
        to[i - 4] = static_cast<uint8_t>(to[i - 4] | (scale >> 4) << 6);
        to[i] = static_cast<uint8_t>(to[i] | (minimum >> 4) << 6);
    }
}

template <typename block> void pack_middle(const uint8_t * from, size_t stride, uint8_t * to) {
    constexpr bool five = has_fifth<block>;
    auto & packed = *reinterpret_cast<middle_block<five> *>(to);
    for (int r = 0; r < GROUP; r++) {
        const auto & row = *reinterpret_cast<const block *>(from + static_cast<size_t>(r) * stride);
        packed.scales[r] = GGML_FP16_TO_FP32(row.GGML_COMMON_AGGR_U.GGML_COMMON_AGGR_S.d);
        packed.minima[r] = GGML_FP16_TO_FP32(row.GGML_COMMON_AGGR_U.GGML_COMMON_AGGR_S.dmin);
        for (int i = 0; i < 8; i++) {
            split_scales(row.scales, i, packed.small_scales[i / 2][r][i % 2], packed.small_minima[i / 2][r][i % 2]);
        }
        for (int w = 0; w < 32; w++) {
            memcpy(packed.words[w / 8][w % 8][r], row.qs + 4 * w, 4);
        }
        if constexpr (five) {
            for (int j = 0; j < 8; j++) {
                memcpy(packed.fifth[j][r], row.qh + 4 * j, 4);
            }
        }
    }
}

template <typename block> void unpack_middle(const uint8_t * from, int r, uint8_t * to) {
    constexpr bool five = has_fifth<block>;
    const auto & packed = *reinterpret_cast<const middle_block<five> *>(from);
    auto & row = *reinterpret_cast<block *>(to);
    row.GGML_COMMON_AGGR_U.GGML_COMMON_AGGR_S.d = GGML_FP32_TO_FP16(packed.scales[r]);
    row.GGML_COMMON_AGGR_U.GGML_COMMON_AGGR_S.dmin = GGML_FP32_TO_FP16(packed.minima[r]);
    memset(row.scales, 0, sizeof(row.scales));
    for (int i = 0; i < 8; i++) {
        join_scales(row.scales, i, packed.small_scales[i / 2][r][i % 2], packed.small_minima[i / 2][r][i % 2]);
    }
    for (int w = 0; w < 32; w++) {
        memcpy(row.qs + 4 * w, packed.words[w / 8][w % 8][r], 4);
    }
    if constexpr (five) {
        for (int j = 0; j < 8; j++) {
            memcpy(row.qh + 4 * j, packed.fifth[j][r], 4);
        }
    }
}

// A bit of each byte of v, moved to bit `to`.
template <int bit, int to> inline vec moved_bit(vec v) {
    const vec m = bit < to ? wasm_i16x8_shl(v, to - bit) : wasm_u16x8_shr(v, bit - to);
    return wasm_v128_and(m, wasm_i8x16_splat(1 << to));
}

template <bool five, int c> inline vec low_codes(vec words, vec fifth) {
    const vec codes = wasm_v128_and(words, wasm_i8x16_const_splat(0x0f));
    return five ? wasm_v128_or(codes, moved_bit<2 * c, 4>(fifth)) : codes;
}

template <bool five, int c> inline vec high_codes(vec words, vec fifth) {
    const vec codes = wasm_v128_and(wasm_u16x8_shr(words, 4), wasm_i8x16_const_splat(0x0f));
    return five ? wasm_v128_or(codes, moved_bit<2 * c + 1, 4>(fifth)) : codes;
}

struct middle_sums {
    vec codes[2], scales[2], minima[2];
};

// Values 64 * c to 64 * c + 63 of a block of eight rows.
template <byte_sums by, bool five, int c>
inline void add_chunk(const uint8_t * block, const char * y, const char * corrections, const char * sums, middle_sums & to) {
    using packed = middle_block<five>;
    vec l0 = five ? begun<by>(wasm_v128_load32_splat(corrections + 8 * c)) : zeros(), l1 = l0;
    vec h0 = five ? begun<by>(wasm_v128_load32_splat(corrections + 8 * c + 4)) : zeros(), h1 = h0;
    const uint8_t * w = block + offsetof(packed, words) + 256 * c;
    const uint8_t * f = block + offsetof(packed, fifth);
    const char * v = y + 64 * c;
    const char * const end = v + 32;
    LB_ROLLED do {
        const vec low = wasm_v128_load64_zero(v), high = wasm_v128_load64_zero(v + 32);
#define STEP(j)                                                                      \
    {                                                                                \
        const vec w0 = wasm_v128_load(w + 32 * j), w1 = wasm_v128_load(w + 32 * j + 16); \
        const vec f0 = five ? wasm_v128_load(f + 32 * j) : zeros();                  \
        const vec f1 = five ? wasm_v128_load(f + 32 * j + 16) : zeros();             \
        l0 = add_dot<by>(l0, spread<j>(low), low_codes<five, c>(w0, f0));                \
        l1 = add_dot<by>(l1, spread<j>(low), low_codes<five, c>(w1, f1));                \
        h0 = add_dot<by>(h0, spread<j>(high), high_codes<five, c>(w0, f0));              \
        h1 = add_dot<by>(h1, spread<j>(high), high_codes<five, c>(w1, f1));              \
    }
        STEP(0) STEP(1)
#undef STEP
        v += 8;
        w += 64;
        f += 64;
        LB_STEP(v, w);
    } while (v != end);
    const vec s0 = wasm_u16x8_load8x8(block + offsetof(packed, small_scales) + 16 * c);
    const vec s1 = wasm_u16x8_load8x8(block + offsetof(packed, small_scales) + 16 * c + 8);
    to.codes[0] = add_times<by>(add_times<by>(to.codes[0], l0, evens(s0)), h0, odds(s0));
    to.codes[1] = add_times<by>(add_times<by>(to.codes[1], l1, evens(s1)), h1, odds(s1));
    const vec s = wasm_v128_load32_splat(sums + 4 * c);
    to.minima[0] = add_dot16(to.minima[0], wasm_u16x8_load8x8(block + offsetof(packed, small_minima) + 16 * c), s);
    to.minima[1] = add_dot16(to.minima[1], wasm_u16x8_load8x8(block + offsetof(packed, small_minima) + 16 * c + 8), s);
    if (five) {
        to.scales[0] = add_dot16(to.scales[0], s0, s);
        to.scales[1] = add_dot16(to.scales[1], s1, s);
    }
}

template <byte_sums by, bool five> void gemv_middle(int64_t k, const uint8_t * weights, const char * activations, float * to) {
    using packed = middle_block<five>;
    const activation_layout at(five ? Q5_K_ACTIVATIONS : Q4_K_ACTIVATIONS, k, 1);
    const char * y = activations, *scales = activations + at.scales, *corrections = activations + at.corrections;
    const char * sums = activations + at.sums;
    const char * const end = y + k;
    vec a0 = zeros(), a1 = zeros();
    LB_ROLLED do {
        middle_sums s = {{zeros(), zeros()}, {zeros(), zeros()}, {zeros(), zeros()}};
        add_chunk<by, five, 0>(weights, y, corrections, sums, s);
        add_chunk<by, five, 1>(weights, y, corrections, sums, s);
        add_chunk<by, five, 2>(weights, y, corrections, sums, s);
        add_chunk<by, five, 3>(weights, y, corrections, sums, s);
        if (five) { // the corrections took 16 times the sums of too much from each code
            s.codes[0] = wasm_i32x4_add(s.codes[0], wasm_i32x4_shl(s.scales[0], 4));
            s.codes[1] = wasm_i32x4_add(s.codes[1], wasm_i32x4_shl(s.scales[1], 4));
        }
        const vec d = wasm_v128_load32_splat(scales);
        const uint8_t * d0 = weights + offsetof(packed, scales), *m0 = weights + offsetof(packed, minima);
        // In the order of the tiles below: a token alone has the bits that it has in a batch.
        a0 = multiply_subtract(wasm_f32x4_convert_i32x4(s.minima[0]), wasm_f32x4_mul(wasm_v128_load(m0), d), a0);
        a1 = multiply_subtract(wasm_f32x4_convert_i32x4(s.minima[1]), wasm_f32x4_mul(wasm_v128_load(m0 + 16), d), a1);
        a0 = scaled(s.codes[0], wasm_f32x4_mul(wasm_v128_load(d0), d), a0);
        a1 = scaled(s.codes[1], wasm_f32x4_mul(wasm_v128_load(d0 + 16), d), a1);
        y += 256;
        scales += 4;
        corrections += 32;
        sums += 16;
        weights += sizeof(packed);
        LB_STEP(y, weights);
    } while (y != end);
    wasm_v128_store(to, a0);
    wasm_v128_store(to + 4, a1);
}

// --- Q6_K

// A byte of words[n][j] is value 128 * n + 32 * (j / 8) + 4 * (j % 8) + i in its low half and 64 more in its high half.
struct large_block {
    float scales[GROUP];
    int8_t small_scales[16][GROUP];
    uint8_t words[2][16][GROUP][4];
    uint8_t upper[2][8][GROUP][4]; // bits 0 and 1 for value 128 * n + 4 * j + i, the next for 32, 64 and 96 more
};

void pack_large(const uint8_t * from, size_t stride, uint8_t * to) {
    auto & packed = *reinterpret_cast<large_block *>(to);
    for (int r = 0; r < GROUP; r++) {
        const auto & row = *reinterpret_cast<const block_q6_K *>(from + static_cast<size_t>(r) * stride);
        packed.scales[r] = GGML_FP16_TO_FP32(row.d);
        for (int i = 0; i < 16; i++) {
            packed.small_scales[i][r] = row.scales[i];
        }
        for (int w = 0; w < 32; w++) {
            memcpy(packed.words[w / 16][w % 16][r], row.ql + 4 * w, 4);
        }
        for (int w = 0; w < 16; w++) {
            memcpy(packed.upper[w / 8][w % 8][r], row.qh + 4 * w, 4);
        }
    }
}

void unpack_large(const uint8_t * from, int r, uint8_t * to) {
    const auto & packed = *reinterpret_cast<const large_block *>(from);
    auto & row = *reinterpret_cast<block_q6_K *>(to);
    row.d = GGML_FP32_TO_FP16(packed.scales[r]);
    for (int i = 0; i < 16; i++) {
        row.scales[i] = packed.small_scales[i][r];
    }
    for (int w = 0; w < 32; w++) {
        memcpy(row.ql + 4 * w, packed.words[w / 16][w % 16][r], 4);
    }
    for (int w = 0; w < 16; w++) {
        memcpy(row.qh + 4 * w, packed.upper[w / 8][w % 8][r], 4);
    }
}

// Two bits of each byte of v from `bit` on, moved to bits 4 and 5.
template <int bit> inline vec moved_pair(vec v) {
    const vec m = bit < 4 ? wasm_i16x8_shl(v, 4 - bit) : wasm_u16x8_shr(v, bit - 4);
    return wasm_v128_and(m, wasm_i8x16_const_splat(0x30));
}

template <int h> inline vec low_six(vec words, vec upper) {
    return wasm_v128_or(wasm_v128_and(words, wasm_i8x16_const_splat(0x0f)), moved_pair<2 * h>(upper));
}

template <int h> inline vec high_six(vec words, vec upper) {
    const vec codes = wasm_v128_and(wasm_u16x8_shr(words, 4), wasm_i8x16_const_splat(0x0f));
    return wasm_v128_or(codes, moved_pair<2 * h + 4>(upper));
}

// Values 128 * n + 32 * h + (0 to 31), and 64 more, of a block of eight rows.
template <byte_sums by, int n, int h>
inline void add_half(const uint8_t * block, const char * y, const char * corrections, vec & s0, vec & s1) {
    const uint8_t * w = block + offsetof(large_block, words) + 512 * n + 256 * h;
    const uint8_t * u = block + offsetof(large_block, upper) + 256 * n;
    const uint8_t * small = block + offsetof(large_block, small_scales) + 8 * (8 * n + 2 * h);
    const char * c = corrections + 4 * (8 * n + 2 * h);
    const char * v = y + 128 * n + 32 * h;
    const char * const end = v + 32;
    LB_ROLLED do {
        vec l0 = begun<by>(wasm_v128_load32_splat(c)), l1 = l0, h0 = begun<by>(wasm_v128_load32_splat(c + 16)), h1 = h0;
        const char * const middle = v + 16;
        LB_ROLLED do {
            const vec low = wasm_v128_load64_zero(v), high = wasm_v128_load64_zero(v + 64);
#define STEP(j)                                                                              \
    {                                                                                        \
        const vec w0 = wasm_v128_load(w + 32 * j), w1 = wasm_v128_load(w + 32 * j + 16);     \
        const vec u0 = wasm_v128_load(u + 32 * j), u1 = wasm_v128_load(u + 32 * j + 16);     \
        l0 = add_dot<by>(l0, spread<j>(low), low_six<h>(w0, u0));                                \
        l1 = add_dot<by>(l1, spread<j>(low), low_six<h>(w1, u1));                                \
        h0 = add_dot<by>(h0, spread<j>(high), high_six<h>(w0, u0));                              \
        h1 = add_dot<by>(h1, spread<j>(high), high_six<h>(w1, u1));                              \
    }
            STEP(0) STEP(1)
#undef STEP
            v += 8;
            w += 64;
            u += 64;
            LB_STEP(v, w);
        } while (v != middle);
        const vec low = wasm_i16x8_load8x8(small), high = wasm_i16x8_load8x8(small + 32);
        s0 = add_times<by>(add_times<by>(s0, l0, doubled_low(low)), h0, doubled_low(high));
        s1 = add_times<by>(add_times<by>(s1, l1, doubled_high(low)), h1, doubled_high(high));
        small += 8;
        c += 4;
        LB_STEP(small, c);
    } while (v != end);
}

template <byte_sums by> void gemv_large(int64_t k, const uint8_t * weights, const char * activations, float * to) {
    const activation_layout at(Q6_K_ACTIVATIONS, k, 1);
    const char * y = activations, *scales = activations + at.scales, *corrections = activations + at.corrections;
    const char * const end = y + k;
    vec a0 = zeros(), a1 = zeros();
    LB_ROLLED do {
        vec s0 = zeros(), s1 = zeros();
        add_half<by, 0, 0>(weights, y, corrections, s0, s1);
        add_half<by, 0, 1>(weights, y, corrections, s0, s1);
        add_half<by, 1, 0>(weights, y, corrections, s0, s1);
        add_half<by, 1, 1>(weights, y, corrections, s0, s1);
        const vec d = wasm_v128_load32_splat(scales);
        a0 = scaled(s0, wasm_f32x4_mul(wasm_v128_load(weights), d), a0);
        a1 = scaled(s1, wasm_f32x4_mul(wasm_v128_load(weights + 16), d), a1);
        y += 256;
        scales += 4;
        corrections += 64;
        weights += sizeof(large_block);
        LB_STEP(y, weights);
    } while (y != end);
    wasm_v128_store(to, a0);
    wasm_v128_store(to + 4, a1);
}

// --- several rows of activations: the weights are expanded first, once for all of them

// Codes as bytes in the order of the values; small scales and minima at 16 bits as add_dot16 wants them.
template <int subs> struct expanded {
    uint8_t codes[64][GROUP][4];
    int16_t scales[subs][2][8]; // each row's twice, for rows 0 to 3 and 4 to 7
    int16_t scale_pairs[4][2][8], minimum_pairs[4][2][8]; // of values 64 * c and 64 * c + 32
    float block_scales[GROUP], block_minima[GROUP];
};

template <bool five, int c> inline void expand_chunk(const uint8_t * block, expanded<8> & to) {
    using packed = middle_block<five>;
    const uint8_t * w = block + offsetof(packed, words) + 256 * c;
    const uint8_t * f = block + offsetof(packed, fifth);
    uint8_t * codes = &to.codes[16 * c][0][0];
    LB_ROLLED for (int i = 0; i < 16; i++) {
        const vec v = wasm_v128_load(w + 16 * i), x = five ? wasm_v128_load(f + 16 * i) : zeros();
        wasm_v128_store(codes + 16 * i, low_codes<five, c>(v, x));
        wasm_v128_store(codes + 256 + 16 * i, high_codes<five, c>(v, x));
    }
    for (int g = 0; g < 2; g++) {
        const vec s = wasm_u16x8_load8x8(block + offsetof(packed, small_scales) + 16 * c + 8 * g);
        wasm_v128_store(to.scales[2 * c][g], evens(s));
        wasm_v128_store(to.scales[2 * c + 1][g], odds(s));
        wasm_v128_store(to.scale_pairs[c][g], s);
        wasm_v128_store(to.minimum_pairs[c][g],
                        wasm_u16x8_load8x8(block + offsetof(packed, small_minima) + 16 * c + 8 * g));
    }
}

template <bool five> void expand_middle(const uint8_t * block, expanded<8> & to) {
    expand_chunk<five, 0>(block, to);
    expand_chunk<five, 1>(block, to);
    expand_chunk<five, 2>(block, to);
    expand_chunk<five, 3>(block, to);
    memcpy(to.block_scales, block, sizeof(to.block_scales) + sizeof(to.block_minima));
}

template <int n, int h> inline void expand_half(const uint8_t * block, expanded<16> & to) {
    const uint8_t * w = block + offsetof(large_block, words) + 512 * n + 256 * h;
    const uint8_t * u = block + offsetof(large_block, upper) + 256 * n;
    uint8_t * codes = &to.codes[32 * n + 8 * h][0][0];
    LB_ROLLED for (int i = 0; i < 16; i++) {
        const vec v = wasm_v128_load(w + 16 * i), x = wasm_v128_load(u + 16 * i);
        wasm_v128_store(codes + 16 * i, low_six<h>(v, x));
        wasm_v128_store(codes + 512 + 16 * i, high_six<h>(v, x));
    }
}

void expand_large(const uint8_t * block, expanded<16> & to) {
    expand_half<0, 0>(block, to);
    expand_half<0, 1>(block, to);
    expand_half<1, 0>(block, to);
    expand_half<1, 1>(block, to);
    for (int i = 0; i < 16; i++) {
        const vec s = wasm_i16x8_load8x8(block + offsetof(large_block, small_scales) + 8 * i);
        wasm_v128_store(to.scales[i][0], doubled_low(s));
        wasm_v128_store(to.scales[i][1], doubled_high(s));
    }
    memcpy(to.block_scales, block, sizeof(to.block_scales));
}

// One block of eight rows of weights times four rows of activations, added to `sums`.
template <byte_sums by, int subs, bool zero, bool minima>
inline void tile(const expanded<subs> & block, const char * y, const char * scales, const char * corrections,
                 const char * activation_sums, vec * sums) {
    vec s[8];
    for (int i = 0; i < 8; i++) {
        s[i] = zeros();
    }
    const uint8_t * w = &block.codes[0][0][0];
    const char * small = reinterpret_cast<const char *>(block.scales);
    LB_ROLLED for (int sub = 0; sub < subs; sub++) {
        vec q[8];
        for (int a = 0; a < 4; a++) {
            q[2 * a] = q[2 * a + 1] = zero ? begun<by>(wasm_v128_load32_splat(corrections + 4 * a)) : zeros();
        }
        const char * const end = y + 1024 / subs;
        LB_ROLLED do {
            const vec v = wasm_v128_load(y), w0 = wasm_v128_load(w), w1 = wasm_v128_load(w + 16);
            add_dots<by>(v, w0, w1, q);
            y += 16;
            w += 32;
            LB_STEP(y, w);
        } while (y != end);
        const vec s0 = wasm_v128_load(small), s1 = wasm_v128_load(small + 16);
        for (int a = 0; a < 4; a++) {
            s[2 * a] = add_times<by>(s[2 * a], q[2 * a], s0);
            s[2 * a + 1] = add_times<by>(s[2 * a + 1], q[2 * a + 1], s1);
        }
        small += 32;
        corrections += 16;
    }
    const vec d = wasm_v128_load(scales);
    const vec d0 = wasm_v128_load(block.block_scales), d1 = wasm_v128_load(block.block_scales + 4);
    const vec m0 = wasm_v128_load(block.block_minima), m1 = wasm_v128_load(block.block_minima + 4);
#define ROW(a)                                                                                           \
    {                                                                                                    \
        if (minima) {                                                                                    \
            vec x0 = zeros(), x1 = zeros(), z0 = zeros(), z1 = zeros();                                  \
            for (int c = 0; c < 4; c++) {                                                                \
                const vec v = wasm_v128_load32_splat(activation_sums + 16 * a + 4 * c);                  \
                x0 = add_dot16(x0, wasm_v128_load(block.minimum_pairs[c][0]), v);                        \
                x1 = add_dot16(x1, wasm_v128_load(block.minimum_pairs[c][1]), v);                        \
                if (zero) {                                                                              \
                    z0 = add_dot16(z0, wasm_v128_load(block.scale_pairs[c][0]), v);                      \
                    z1 = add_dot16(z1, wasm_v128_load(block.scale_pairs[c][1]), v);                      \
                }                                                                                        \
            }                                                                                            \
            if (zero) {                                                                                  \
                s[2 * a] = wasm_i32x4_add(s[2 * a], wasm_i32x4_shl(z0, 4));                              \
                s[2 * a + 1] = wasm_i32x4_add(s[2 * a + 1], wasm_i32x4_shl(z1, 4));                      \
            }                                                                                            \
            sums[2 * a] = multiply_subtract(wasm_f32x4_convert_i32x4(x0), wasm_f32x4_mul(m0, spread<a>(d)), sums[2 * a]); \
            sums[2 * a + 1] = multiply_subtract(wasm_f32x4_convert_i32x4(x1), wasm_f32x4_mul(m1, spread<a>(d)), sums[2 * a + 1]); \
        }                                                                                                \
        sums[2 * a] = scaled(s[2 * a], wasm_f32x4_mul(d0, spread<a>(d)), sums[2 * a]);                   \
        sums[2 * a + 1] = scaled(s[2 * a + 1], wasm_f32x4_mul(d1, spread<a>(d)), sums[2 * a + 1]);       \
    }
    ROW(0) ROW(1) ROW(2) ROW(3)
#undef ROW
}

template <byte_sums by, int subs, bool zero, bool minima>
void gemm(const activation_kind & kind, void (*expand)(const uint8_t *, expanded<subs> &), size_t packed_size, int64_t k,
          int64_t start, int64_t end, const uint8_t * weights, const char * activations, size_t group_size, int64_t n,
          float * const * to, char * scratch) {
    const activation_layout at(kind, k, 4);
    auto & block = *reinterpret_cast<expanded<subs> *>(scratch);
    static_assert(sizeof(block) <= SCRATCH_SIZE, "");
    for (int64_t b = start / 256; b < end / 256; b++) {
        expand(weights + static_cast<size_t>(b) * packed_size, block);
        for (int64_t i = 0; i < n; i++) {
            const char * group = activations + static_cast<size_t>(i) * group_size;
            vec sums[8];
            load_sums(b == 0, to + 4 * i, sums);
            tile<by, subs, zero, minima>(block, group + b * 1024, group + at.scales + b * 16,
                                     group + at.corrections + b * subs * 16, group + at.sums + b * 64, sums);
            store_sums(to + 4 * i, sums);
        }
    }
}

template <byte_sums by, bool five>
void gemm_middle(int64_t k, int64_t start, int64_t end, const uint8_t * weights, const char * activations, size_t group_size,
                 int64_t n, float * const * to, char * scratch) {
    gemm<by, 8, five, true>(five ? Q5_K_ACTIVATIONS : Q4_K_ACTIVATIONS, expand_middle<five>, sizeof(middle_block<five>), k,
                        start, end, weights, activations, group_size, n, to, scratch);
}

template <byte_sums by>
void gemm_large(int64_t k, int64_t start, int64_t end, const uint8_t * weights, const char * activations, size_t group_size,
                int64_t n, float * const * to, char * scratch) {
    gemm<by, 16, true, false>(Q6_K_ACTIVATIONS, expand_large, sizeof(large_block), k, start, end, weights, activations,
                          group_size, n, to, scratch);
}

template <byte_sums by, bool five> constexpr kernels MIDDLE = {five ? Q5_K_ACTIVATIONS : Q4_K_ACTIVATIONS, gemv_middle<by, five>, gemm_middle<by, five>, nullptr};
template <byte_sums by> constexpr kernels LARGE = {Q6_K_ACTIVATIONS, gemv_large<by>, gemm_large<by>, nullptr};

} // namespace

const format Q4_K = {GGML_TYPE_Q4_K,          256,                     sizeof(block_q4_K),                                sizeof(middle_block<false>),
                     pack_middle<block_q4_K>, unpack_middle<block_q4_K>, {MIDDLE<PAIRS, false>, MIDDLE<FOURS, false>}, FEW_GROUPS};
const format Q5_K = {GGML_TYPE_Q5_K,          256,                     sizeof(block_q5_K),                              sizeof(middle_block<true>),
                     pack_middle<block_q5_K>, unpack_middle<block_q5_K>, {MIDDLE<PAIRS, true>, MIDDLE<FOURS, true>}, FEW_GROUPS};
const format Q6_K = {GGML_TYPE_Q6_K, 256, sizeof(block_q6_K), sizeof(large_block), pack_large, unpack_large, {LARGE<PAIRS>, LARGE<FOURS>}, FEW_GROUPS};

} // namespace lb
