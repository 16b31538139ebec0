// F16, held as integers of 16 bits with a scale for 32 weights, a power of two: multiplying such integers takes a third of the
// instructions. What is at least a sixteenth of the largest of its block is exact; what is less, to 2^-15 of that.
#include <string.h>

#include <algorithm>

#include "ggml-impl.h"

#include "formats.h"
#include "scaled.h"
#include "simd.h"

namespace lb {

namespace {

// Scales at half precision, 2 to the power of n, and codes from -2^15 to 2^15: a weight is its code times its scale over 2^14.
struct wide_block {
    uint16_t scales[GROUP];
    int16_t pairs[16][GROUP][2];
};

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

void pack(const uint8_t * from, size_t stride, uint8_t * to) {
    auto & packed = *reinterpret_cast<wide_block *>(to);
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

void unpack(const uint8_t * from, int r, uint8_t * to) {
    const auto & packed = *reinterpret_cast<const wide_block *>(from);
    const float scale = GGML_FP16_TO_FP32(packed.scales[r]) / CODES;
    for (int i = 0; i < 32; i++) {
        const ggml_fp16_t value = GGML_FP32_TO_FP16(scale * static_cast<float>(packed.pairs[i / 2][r][i % 2]));
        memcpy(to + 2 * i, &value, 2);
    }
}

// The scales of four rows.
inline vec scales_at(const uint8_t * weights) {
    return wasm_f32x4_mul(small_halves(weights), wasm_f32x4_const_splat(HALF_FACTOR / CODES));
}

void gemv(int64_t k, const uint8_t * weights, const char * activations, float * to) {
    const activation_layout at(F16_ACTIVATIONS, k, 1);
    const char * y = activations;
    const char * const end = y + 2 * k;
    const char * scales = activations + at.scales;
    vec a0 = zeros(), a1 = zeros();
    LB_ROLLED do {
        vec q0 = zeros(), q1 = zeros();
        const vec d0 = scales_at(weights), d1 = scales_at(weights + 8);
        const char * const block_end = y + 64;
        LB_ROLLED do {
            const vec v = wasm_v128_load(y);
#define STEP(p)                                                                   \
    q0 = add_dot16(q0, wasm_v128_load(weights + 16 + 32 * p), spread<p>(v)); \
    q1 = add_dot16(q1, wasm_v128_load(weights + 32 + 32 * p), spread<p>(v));
            STEP(0) STEP(1) STEP(2) STEP(3)
#undef STEP
            y += 16;
            weights += 128;
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

// Eight rows of weights times the first `rows` of four of activations, over n blocks, added to f.
template <int rows> inline void tile(int64_t n, const uint8_t * weights, const char * y, const char * scales, vec * f) {
    LB_ROLLED for (int64_t b = 0; b < n; b++) {
        vec q[2 * rows];
        const uint8_t * pairs = weights + offsetof(wide_block, pairs);
        const char * const end = y + 256;
        add_pairs<true, rows>(wasm_v128_load(pairs), wasm_v128_load(pairs + 16), y, q);
        y += 16;
        pairs += 32;
        LB_ROLLED do {
            LB_STEP(y, pairs);
            add_pairs<false, rows>(wasm_v128_load(pairs), wasm_v128_load(pairs + 16), y, q);
            y += 16;
            pairs += 32;
        } while (y != end);
        add_scaled_of<scaled32, rows>(q, scales_at(weights), scales_at(weights + 8), wasm_v128_load(scales), f);
        scales += 16;
        weights += sizeof(wide_block);
        LB_STEP(scales, weights);
    }
}

enum { CHUNK = 32 }; // blocks that stay in the first-level cache while activations pass by: 16 KiB

void gemm(int64_t k, int64_t start, int64_t end, const uint8_t * weights, const char * activations, size_t group_size, int64_t n,
          float * const * to, char * scratch) {
    const activation_layout at(F16_ACTIVATIONS, k, 4);
    auto * scales = reinterpret_cast<float *>(scratch);
    for (int64_t first = start / 32; first < end / 32; first += CHUNK) {
        const int64_t count = std::min<int64_t>(end / 32 - first, CHUNK);
        const uint8_t * chunk = weights + static_cast<size_t>(first) * sizeof(wide_block);
        for (int64_t b = 0; b < count; b++) {
            const uint8_t * block = chunk + static_cast<size_t>(b) * sizeof(wide_block);
            wasm_v128_store(scales + GROUP * b, scales_at(block));
            wasm_v128_store(scales + GROUP * b + 4, scales_at(block + 8));
        }
        for (int64_t i = 0; i < n; i++) {
            const char * group = activations + static_cast<size_t>(i) * group_size;
            vec sums[8];
            load_sums(first == 0, to + 4 * i, sums);
            tile_pairs<offsetof(wide_block, pairs)>(count, chunk + offsetof(wide_block, pairs), scales, group + first * 256,
                                                    group + at.scales + first * 16, sums);
            store_sums(to + 4 * i, sums);
        }
    }
}

template <int rows> void few(int64_t k, const uint8_t * weights, const char * activations, float * const * to) {
    const activation_layout at(F16_ACTIVATIONS, k, 4);
    vec f[2 * rows];
    for (int i = 0; i < 2 * rows; i++) {
        f[i] = zeros();
    }
    tile<rows>(k / 32, weights, activations, activations + at.scales, f);
    store_rows<rows>(f, to);
}

void few(int64_t k, const uint8_t * weights, const char * activations, int rows, float * const * to) {
    (rows == 2 ? few<2> : rows == 3 ? few<3> : few<4>)(k, weights, activations, to);
}

constexpr kernels WIDE = {gemv, gemm, few};

} // namespace

const format F16 = {GGML_TYPE_F16, F16_ACTIVATIONS, 32, 64, sizeof(wide_block), pack, unpack, {WIDE, WIDE}, FEW_GROUPS};

} // namespace lb
