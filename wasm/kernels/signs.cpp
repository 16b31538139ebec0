// Q8_0 in fours. What multiplies bytes takes one operand without a sign, of at most 127. So activations come in two parts, those above
// 0 and those below, and the sums of the second are taken from those of the first.
//
// That is half of the instructions where four products are one instruction, and more elsewhere: there Q8_0 is in pairs, in wide.cpp.
#include <algorithm>

#include "formats.h"
#include "scaled.h"
#include "simd.h"
#include "wide.h"

namespace lb {

namespace {

using packed = wide_block<int8_t>;

// Four codes of each of eight rows: two pairs of each, side by side.
struct quads {
    vec rows[2];

    explicit quads(const uint8_t * pairs) {
        const vec first = wasm_v128_load(pairs), second = wasm_v128_load(pairs + 16);
        rows[0] = wasm_i16x8_shuffle(first, second, 0, 8, 1, 9, 2, 10, 3, 11);
        rows[1] = wasm_i16x8_shuffle(first, second, 4, 12, 5, 13, 6, 14, 7, 15);
    }
};

// Codes in fours, in the order of the values, and scales in single precision.
enum { CHUNK = 64 }; // blocks that stay in the first-level cache while activations pass by: 16 KiB

struct expanded {
    int8_t codes[CHUNK][8][GROUP][4];
    float scales[CHUNK][GROUP];
};

void expand(const uint8_t * weights, int64_t n, expanded & to) {
    LB_ROLLED for (int64_t b = 0; b < n; b++) {
        for (int i = 0; i < 8; i++) {
            const quads codes(weights + offsetof(packed, pairs) + 32 * i);
            wasm_v128_store(to.codes[b][i][0], codes.rows[0]);
            wasm_v128_store(to.codes[b][i][4], codes.rows[1]);
        }
        wasm_v128_store(to.scales[b], small_halves(weights));
        wasm_v128_store(to.scales[b] + 4, small_halves(weights + 8));
        weights += sizeof(packed);
    }
}

// Four codes of each of eight rows times those of the first `rows` of four activations, added to q.
template <int rows> inline void add_products(vec w0, vec w1, const char * y, vec * q) {
    const vec v = wasm_v128_load(y);
    const vec a[4] = {spread<0>(v), spread<1>(v), spread<2>(v), spread<3>(v)};
    for (int i = 0; i < rows; i++) {
        q[2 * i] = add_dot<FOURS>(q[2 * i], w0, a[i]);
        q[2 * i + 1] = add_dot<FOURS>(q[2 * i + 1], w1, a[i]);
    }
}

// A block of eight rows times one part of its activations, four of them, added to q.
inline void add_part(const int8_t * codes, const char * y, vec * q) {
    const char * const end = y + 128;
    LB_ROLLED do {
        add_products<4>(wasm_v128_load(codes), wasm_v128_load(codes + 16), y, q);
        y += 16;
        codes += 32;
        LB_STEP(y, codes);
    } while (y != end);
}

// Eight rows of weights times four of activations, over n blocks, added to `sums`. `below` bytes after the activations above 0 are
// those below.
inline void tile(int64_t n, const expanded & weights, const char * y, size_t below, const char * scales, vec * sums) {
    const int8_t * codes = weights.codes[0][0][0];
    const float * weight_scales = weights.scales[0];
    vec f[8];
    for (int i = 0; i < 8; i++) {
        f[i] = sums[i];
    }
    LB_ROLLED for (int64_t b = 0; b < n; b++) {
        vec q[8];
        for (int i = 0; i < 8; i++) {
            q[i] = zeros();
        }
        add_part(codes, y + below, q);
        for (int i = 0; i < 8; i++) {
            q[i] = wasm_i32x4_neg(q[i]);
        }
        add_part(codes, y, q);
        const vec d0 = wasm_v128_load(weight_scales), d1 = wasm_v128_load(weight_scales + 4), d = wasm_v128_load(scales);
        add_scaled<scaled32>(q, d0, d1, d, f);
        y += 128;
        codes += 256;
        weight_scales += GROUP;
        scales += 16;
    }
    for (int i = 0; i < 8; i++) {
        sums[i] = f[i];
    }
}

// A packed block times one part of its activations, of the first `rows` of four, added to q.
template <int rows> inline void add_part_of(const uint8_t * pairs, const char * y, vec * q) {
    const char * const end = y + 128;
    LB_ROLLED do {
        const quads codes(pairs);
        add_products<rows>(codes.rows[0], codes.rows[1], y, q);
        y += 16;
        pairs += 32;
        LB_STEP(y, pairs);
    } while (y != end);
}

template <int rows> void few(int64_t k, const uint8_t * weights, const char * activations, float * const * to) {
    const activation_layout at(Q8_0_FOURS_ACTIVATIONS, k, 4);
    const char * y = activations;
    const char * const last = y + 4 * k;
    const char * scales = activations + at.scales;
    vec f[2 * rows];
    for (int i = 0; i < 2 * rows; i++) {
        f[i] = zeros();
    }
    LB_ROLLED do {
        vec q[2 * rows];
        for (int i = 0; i < 2 * rows; i++) {
            q[i] = zeros();
        }
        add_part_of<rows>(weights + offsetof(packed, pairs), y + at.below, q);
        for (int i = 0; i < 2 * rows; i++) {
            q[i] = wasm_i32x4_neg(q[i]);
        }
        add_part_of<rows>(weights + offsetof(packed, pairs), y, q);
        add_scaled_of<scaled32, rows>(q, small_halves(weights), small_halves(weights + 8), wasm_v128_load(scales), f);
        y += 128;
        scales += 16;
        weights += sizeof(packed);
        LB_STEP(y, weights);
    } while (y != last);
    store_rows<rows>(f, to);
}

} // namespace

void gemv_by_sign(int64_t k, const uint8_t * weights, const char * activations, float * to) {
    const activation_layout at(Q8_0_FOURS_ACTIVATIONS, k, 1);
    const char * y = activations;
    const char * const end = y + k;
    const char * scales = activations + at.scales;
    vec a0 = zeros(), a1 = zeros();
    LB_ROLLED do {
        vec above0 = zeros(), above1 = zeros(), below0 = zeros(), below1 = zeros();
        const vec d0 = small_halves(weights), d1 = small_halves(weights + 8);
        weights += offsetof(packed, pairs);
        const char * const block_end = y + 32;
        LB_ROLLED do {
            const vec v = wasm_v128_load(y), u = wasm_v128_load(y + at.below);
#define STEP(i)                                                         \
    {                                                                   \
        const quads codes(weights + 32 * i);                            \
        above0 = add_dot<FOURS>(above0, codes.rows[0], spread<i>(v)); \
        above1 = add_dot<FOURS>(above1, codes.rows[1], spread<i>(v)); \
        below0 = add_dot<FOURS>(below0, codes.rows[0], spread<i>(u)); \
        below1 = add_dot<FOURS>(below1, codes.rows[1], spread<i>(u)); \
    }
            STEP(0) STEP(1) STEP(2) STEP(3)
#undef STEP
            y += 16;
            weights += 128;
            LB_STEP(y, weights);
        } while (y != block_end);
        const vec d = wasm_v128_load32_splat(scales);
        a0 = scaled32(wasm_i32x4_sub(above0, below0), wasm_f32x4_mul(d0, d), a0);
        a1 = scaled32(wasm_i32x4_sub(above1, below1), wasm_f32x4_mul(d1, d), a1);
        scales += 4;
        LB_STEP(scales, weights);
    } while (y != end);
    wasm_v128_store(to, a0);
    wasm_v128_store(to + 4, a1);
}

void gemm_by_sign(int64_t k, int64_t start, int64_t end, const uint8_t * weights, const char * activations, size_t group_size,
                  int64_t n, float * const * to, char * scratch) {
    static_assert(sizeof(expanded) <= SCRATCH_SIZE, "");
    const activation_layout at(Q8_0_FOURS_ACTIVATIONS, k, 4);
    auto & chunk = *reinterpret_cast<expanded *>(scratch);
    for (int64_t first = start / 32; first < end / 32; first += CHUNK) {
        const int64_t count = std::min<int64_t>(end / 32 - first, CHUNK);
        expand(weights + static_cast<size_t>(first) * sizeof(packed), count, chunk);
        for (int64_t i = 0; i < n; i++) {
            const char * group = activations + static_cast<size_t>(i) * group_size;
            vec sums[8];
            load_sums(first == 0, to + 4 * i, sums);
            tile(count, chunk, group + first * 128, at.below, group + at.scales + first * 16, sums);
            store_sums(to + 4 * i, sums);
        }
    }
}

void few_by_sign(int64_t k, const uint8_t * weights, const char * activations, int rows, float * const * to) {
    (rows == 2 ? few<2> : rows == 3 ? few<3> : few<4>)(k, weights, activations, to);
}

} // namespace lb
