// Q8_0 and F16: a scale for 32 weights, and products of integers of 16 bits. Q8_0 in fours is in signs.cpp.
//
// F16 is held as such integers with a scale that is a power of two: multiplying them takes a third of the instructions. What is at
// least a sixteenth of the largest of its block is exact; what is less, to 2^-15 of that.
#include <string.h>

#include <algorithm>
#include <type_traits>

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "ggml-impl.h"

#include "formats.h"
#include "scaled.h"
#include "simd.h"
#include "wide.h"

namespace lb {

namespace {

template <typename code> constexpr bool is_half = std::is_same_v<code, int16_t>;
template <typename code> constexpr activation_kind ACTIVATIONS = is_half<code> ? F16_ACTIVATIONS : Q8_0_ACTIVATIONS;

// --- packing: Q8_0

void pack_bytes(const uint8_t * from, size_t stride, uint8_t * to) {
    auto & packed = *reinterpret_cast<wide_block<int8_t> *>(to);
    for (int half = 0; half < 2; half++) {
        vec rows[GROUP], columns[GROUP];
        for (int r = 0; r < GROUP; r++) {
            const auto & row = *reinterpret_cast<const block_q8_0 *>(from + static_cast<size_t>(r) * stride);
            packed.scales[r] = row.d;
            rows[r] = wasm_v128_load(row.qs + 16 * half);
        }
        transpose16(rows, columns);
        for (int p = 0; p < 8; p++) {
            wasm_v128_store(packed.pairs[8 * half + p], columns[p]);
        }
    }
}

void unpack_bytes(const uint8_t * from, int r, uint8_t * to) {
    const auto & packed = *reinterpret_cast<const wide_block<int8_t> *>(from);
    auto & row = *reinterpret_cast<block_q8_0 *>(to);
    row.d = packed.scales[r];
    for (int p = 0; p < 16; p++) {
        memcpy(row.qs + 2 * p, packed.pairs[p][r], 2);
    }
}

// --- packing: F16. Scales are 2 to the power of n, codes from -2^15 to 2^15: a weight is its code times its scale over 2^14.

constexpr float CODES = 0x1p14f; // the code of what is as large as its scale
constexpr uint16_t INFINITE = 0x7c00, NOT_A_NUMBER = 0x7e00;

// The largest power of two that is not above any of 32 numbers of half precision; that of zeros is 0.
uint16_t scale_of(const uint8_t * halves) {
    vec m = zeros();
    for (int i = 0; i < 64; i += 16) {
        m = wasm_i16x8_max(m, wasm_v128_and(wasm_v128_load(halves + i), wasm_i16x8_const_splat(0x7fff)));
    }
    m = wasm_i16x8_max(m, wasm_i32x4_shuffle(m, m, 2, 3, 0, 1));
    m = wasm_i16x8_max(m, wasm_i32x4_shuffle(m, m, 1, 0, 3, 2));
    const auto largest = static_cast<uint32_t>(std::max(wasm_i16x8_extract_lane(m, 0), wasm_i16x8_extract_lane(m, 1)));
    if (largest >= INFINITE) {
        return NOT_A_NUMBER;
    }
    const uint32_t exponent = largest & INFINITE;
    return static_cast<uint16_t>(exponent != 0 || largest == 0 ? exponent : 1u << (31 - __builtin_clz(largest)));
}

// Four half-precision numbers times `factor`, rounded to nearest: adding 1.5 * 2^23 leaves the integer in the low bits.
vec four_codes_of(const uint8_t * halves, vec factor) {
    const vec magic = wasm_f32x4_const_splat(0x1.8p23f);
    const vec numbers = wasm_f32x4_mul(small_halves(halves), wasm_f32x4_const_splat(HALF_FACTOR));
    return wasm_i32x4_sub(multiply_add(numbers, factor, magic), magic);
}

vec codes_of(const uint8_t * halves, vec factor) {
    return wasm_i16x8_narrow_i32x4(four_codes_of(halves, factor), four_codes_of(halves + 8, factor));
}

void pack_halves(const uint8_t * from, size_t stride, uint8_t * to) {
    auto & packed = *reinterpret_cast<wide_block<int16_t> *>(to);
    vec factors[GROUP];
    for (int r = 0; r < GROUP; r++) {
        const uint16_t scale = scale_of(from + static_cast<size_t>(r) * stride);
        packed.scales[r] = scale;
        const bool none = scale == 0 || scale == NOT_A_NUMBER;
        factors[r] = wasm_f32x4_splat(none ? 0.0f : CODES / GGML_FP16_TO_FP32(scale));
    }
    for (int i = 0; i < 64; i += 16) {
        for (int half = 0; half < GROUP; half += 4) {
            vec rows[4], columns[4];
            for (int r = 0; r < 4; r++) {
                rows[r] = codes_of(from + static_cast<size_t>(half + r) * stride + i, factors[half + r]);
            }
            transpose(rows, columns);
            for (int p = 0; p < 4; p++) {
                wasm_v128_store(packed.pairs[i / 4 + p][half], columns[p]);
            }
        }
    }
}

void unpack_halves(const uint8_t * from, int r, uint8_t * to) {
    const auto & packed = *reinterpret_cast<const wide_block<int16_t> *>(from);
    const float scale = GGML_FP16_TO_FP32(packed.scales[r]) / CODES;
    for (int i = 0; i < 32; i++) {
        const ggml_fp16_t value = GGML_FP32_TO_FP16(scale * static_cast<float>(packed.pairs[i / 2][r][i % 2]));
        memcpy(to + 2 * i, &value, 2);
    }
}

// --- products

// Eight codes, at 16 bits.
template <typename code> inline vec codes_at(const void * p) {
    return is_half<code> ? wasm_v128_load(p) : wasm_i16x8_load8x8(p);
}

// The scales of four rows.
template <typename code> inline vec scales_at(const uint8_t * weights) {
    const vec halves = small_halves(weights);
    return is_half<code> ? wasm_f32x4_mul(halves, wasm_f32x4_const_splat(HALF_FACTOR / CODES)) : halves;
}

template <typename code> void gemv(int64_t k, const uint8_t * weights, const char * activations, float * to) {
    constexpr int EIGHT = 8 * sizeof(code);
    const activation_layout at(ACTIVATIONS<code>, k, 1);
    const char * y = activations;
    const char * const end = y + k * static_cast<int64_t>(sizeof(code));
    const char * scales = activations + at.scales;
    vec a0 = zeros(), a1 = zeros();
    LB_ROLLED do {
        vec q0 = zeros(), q1 = zeros();
        const vec d0 = scales_at<code>(weights), d1 = scales_at<code>(weights + 8);
        const char * const block_end = y + 4 * EIGHT;
        LB_ROLLED do {
            const vec v = codes_at<code>(y);
#define STEP(p)                                                                             \
    q0 = add_dot16(q0, codes_at<code>(weights + 16 + 2 * p * EIGHT), spread<p>(v)); \
    q1 = add_dot16(q1, codes_at<code>(weights + 16 + (2 * p + 1) * EIGHT), spread<p>(v));
            STEP(0) STEP(1) STEP(2) STEP(3)
#undef STEP
            y += EIGHT;
            weights += 8 * EIGHT;
            LB_STEP(y, weights);
        } while (y != block_end);
        const vec d = wasm_v128_load32_splat(scales);
        a0 = scaled32(q0, wasm_f32x4_mul(d0, d), a0);
        a1 = scaled32(q1, wasm_f32x4_mul(d1, d), a1);
        weights += 16;
        scales += 4;
        LB_STEP(scales, weights);
    } while (y != end);
    wasm_v128_store(to, a0);
    wasm_v128_store(to + 4, a1);
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
template <int gap> inline void tile(int64_t n, const uint8_t * weights, const float * weight_scales, const char * y, const char * scales, vec * sums) {
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
        weight_scales += GROUP;
        scales += 16;
    }
    for (int i = 0; i < 8; i++) {
        sums[i] = f[i];
    }
}

// Chunks stay in the first-level cache while activations pass by: 16 KiB of codes, expanded unless they have 16 bits already.
enum { CHUNK = 32 };

struct expanded {
    int16_t codes[CHUNK][256];
    float scales[CHUNK][GROUP];
};

template <typename code> void expand(const uint8_t * weights, int64_t n, expanded & to) {
    LB_ROLLED for (int64_t b = 0; b < n; b++) {
        if (!is_half<code>) {
            const uint8_t * from = weights + offsetof(wide_block<code>, pairs);
            for (int i = 0; i < 32; i++) {
                wasm_v128_store(to.codes[b] + 8 * i, codes_at<code>(from + 8 * i));
            }
        }
        wasm_v128_store(to.scales[b], scales_at<code>(weights));
        wasm_v128_store(to.scales[b] + 4, scales_at<code>(weights + 8));
        weights += sizeof(wide_block<code>);
    }
}

template <typename code>
void gemm(int64_t k, int64_t start, int64_t end, const uint8_t * weights, const char * activations, size_t group_size, int64_t n,
          float * const * to, char * scratch) {
    static_assert(sizeof(expanded) <= SCRATCH_SIZE, "");
    constexpr int gap = is_half<code> ? offsetof(wide_block<code>, pairs) : 0;
    const activation_layout at(ACTIVATIONS<code>, k, 4);
    auto & chunk = *reinterpret_cast<expanded *>(scratch);
    for (int64_t first = start / 32; first < end / 32; first += CHUNK) {
        const int64_t count = std::min<int64_t>(end / 32 - first, CHUNK);
        const uint8_t * blocks = weights + static_cast<size_t>(first) * sizeof(wide_block<code>);
        expand<code>(blocks, count, chunk);
        const uint8_t * codes = is_half<code> ? blocks + gap : reinterpret_cast<const uint8_t *>(chunk.codes);
        for (int64_t i = 0; i < n; i++) {
            const char * group = activations + static_cast<size_t>(i) * group_size;
            vec sums[8];
            load_sums(first == 0, to + 4 * i, sums);
            tile<gap>(count, codes, chunk.scales[0], group + first * 256, group + at.scales + first * 16, sums);
            store_sums(to + 4 * i, sums);
        }
    }
}

// The same of the first rows of a group, straight from the packed weights.
template <typename code, int rows> void few(int64_t k, const uint8_t * weights, const char * activations, float * const * to) {
    constexpr int EIGHT = 8 * sizeof(code);
    const activation_layout at(ACTIVATIONS<code>, k, 4);
    const char * y = activations;
    const char * const last = y + 8 * k;
    const char * scales = activations + at.scales;
    vec f[2 * rows];
    for (int i = 0; i < 2 * rows; i++) {
        f[i] = zeros();
    }
    LB_ROLLED do {
        vec q[2 * rows];
        const uint8_t * pairs = weights + offsetof(wide_block<code>, pairs);
        const char * const end = y + 256;
        add_pairs<true, rows>(codes_at<code>(pairs), codes_at<code>(pairs + EIGHT), y, q);
        y += 16;
        pairs += 2 * EIGHT;
        LB_ROLLED do {
            LB_STEP(y, pairs);
            add_pairs<false, rows>(codes_at<code>(pairs), codes_at<code>(pairs + EIGHT), y, q);
            y += 16;
            pairs += 2 * EIGHT;
        } while (y != end);
        add_scaled_of<scaled32, rows>(q, scales_at<code>(weights), scales_at<code>(weights + 8), wasm_v128_load(scales), f);
        scales += 16;
        weights += sizeof(wide_block<code>);
        LB_STEP(scales, weights);
    } while (y != last);
    store_rows<rows>(f, to);
}

template <typename code> void few(int64_t k, const uint8_t * weights, const char * activations, int rows, float * const * to) {
    (rows == 2 ? few<code, 2> : rows == 3 ? few<code, 3> : few<code, 4>)(k, weights, activations, to);
}

template <typename code> constexpr kernels PRODUCTS = {ACTIVATIONS<code>, gemv<code>, gemm<code>, few<code>};
constexpr kernels BY_SIGN = {Q8_0_FOURS_ACTIVATIONS, gemv_by_sign, gemm_by_sign, few_by_sign};

} // namespace

const format Q8_0 = {GGML_TYPE_Q8_0, 32,           sizeof(block_q8_0),           sizeof(wide_block<int8_t>),
                     pack_bytes,     unpack_bytes, {PRODUCTS<int8_t>, BY_SIGN}, FEW_GROUPS};
const format F16 = {GGML_TYPE_F16, 32,            64,                                     sizeof(wide_block<int16_t>),
                    pack_halves,   unpack_halves, {PRODUCTS<int16_t>, PRODUCTS<int16_t>}, FEW_GROUPS};

} // namespace lb
