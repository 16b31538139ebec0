// F16: no blocks and no scales; activations stay single precision, rounded to half precision as everywhere in ggml.
#include <string.h>

#include <algorithm>

#include "formats.h"
#include "simd.h"

namespace lb {

namespace {

enum {
    STEP = 16,  // values of a row in one packed block
    CHUNK = 256, // values expanded at a time: eight rows of them, 8 KiB, stay in the first-level cache
};

// Pairs of neighbouring values, as in the file, of eight rows.
struct half_block {
    uint16_t pairs[STEP / 2][GROUP][2];
};

void pack(const uint8_t * from, size_t stride, uint8_t * to) {
    for (int i = 0; i < STEP; i += 8) {
        for (int half = 0; half < GROUP; half += 4) {
            vec rows[4], columns[4];
            for (int r = 0; r < 4; r++) {
                rows[r] = wasm_v128_load(from + static_cast<size_t>(half + r) * stride + 2 * static_cast<size_t>(i));
            }
            transpose(rows, columns);
            for (int p = 0; p < 4; p++) {
                wasm_v128_store(to + 16 * i + 32 * p + 4 * half, columns[p]);
            }
        }
    }
}

void unpack(const uint8_t * from, int r, uint8_t * to) {
    const auto & packed = *reinterpret_cast<const half_block *>(from);
    for (int p = 0; p < STEP / 2; p++) {
        memcpy(to + 4 * p, packed.pairs[p][r], 4);
    }
}

// The second and the first values of four pairs, over HALF_FACTOR. A product with 2^13 moves as a shift would, the sign
// with it, but other units do it: shifts are what is scarce here.
inline vec second(vec pairs) {
    return wasm_v128_and(wasm_i32x4_shr(pairs, 3), wasm_i32x4_const_splat((int) 0x8fffe000));
}

inline vec first(vec pairs) {
    const vec moved = wasm_i32x4_dot_i16x8(pairs, wasm_i32x4_const_splat(1 << 13));
    return wasm_v128_and(moved, wasm_i32x4_const_splat((int) 0x8fffe000));
}

void gemv(int64_t k, const uint8_t * weights, const char * activations, float * to) {
    const char * y = activations;
    const char * const end = y + 4 * k;
    vec a[4] = {zeros(), zeros(), zeros(), zeros()};
    LB_ROLLED do {
        const vec v = wasm_v128_load(y);
#define STEP(i)                                                                                                \
    {                                                                                                          \
        const vec w0 = wasm_v128_load(weights + 32 * i), w1 = wasm_v128_load(weights + 32 * i + 16);           \
        a[0] = multiply_add(first(w0), spread<2 * i>(v), a[0]);                                                \
        a[1] = multiply_add(first(w1), spread<2 * i>(v), a[1]);                                                \
        a[2] = multiply_add(second(w0), spread<2 * i + 1>(v), a[2]);                                           \
        a[3] = multiply_add(second(w1), spread<2 * i + 1>(v), a[3]);                                           \
    }
        STEP(0) STEP(1)
#undef STEP
        y += 16;
        weights += 64;
        LB_STEP(y, weights);
    } while (y != end);
    const vec factor = wasm_f32x4_const_splat(HALF_FACTOR / ACTIVATION_FACTOR);
    wasm_v128_store(to, wasm_f32x4_mul(wasm_f32x4_add(a[0], a[2]), factor));
    wasm_v128_store(to + 4, wasm_f32x4_mul(wasm_f32x4_add(a[1], a[3]), factor));
}

// s[2 * r] and s[2 * r + 1] += lane r of v times w0 and w1.
inline void add_outer(vec v, vec w0, vec w1, vec * s) {
    s[0] = multiply_add(spread<0>(v), w0, s[0]);
    s[1] = multiply_add(spread<0>(v), w1, s[1]);
    s[2] = multiply_add(spread<1>(v), w0, s[2]);
    s[3] = multiply_add(spread<1>(v), w1, s[3]);
    s[4] = multiply_add(spread<2>(v), w0, s[4]);
    s[5] = multiply_add(spread<2>(v), w1, s[5]);
    s[6] = multiply_add(spread<3>(v), w0, s[6]);
    s[7] = multiply_add(spread<3>(v), w1, s[7]);
}

// One step at a time: of two, wasmtime keeps two sums in memory.
inline void tile(int64_t n, const char * weights, const char * y, vec * sums) {
    vec s[8];
    for (int i = 0; i < 8; i++) {
        s[i] = sums[i];
    }
    const char * const end = y + 16 * n;
    LB_ROLLED do {
        add_outer(wasm_v128_load(y), wasm_v128_load(weights), wasm_v128_load(weights + 16), s);
        y += 16;
        weights += 32;
        LB_STEP(y, weights);
    } while (y != end);
    for (int i = 0; i < 8; i++) {
        sums[i] = s[i];
    }
}

void gemm(int64_t, int64_t start, int64_t end, const uint8_t * weights, const char * activations, size_t group_size, int64_t n,
          float * const * to, char * scratch) {
    const vec factor = wasm_f32x4_const_splat(HALF_FACTOR / ACTIVATION_FACTOR);
    auto * wide = reinterpret_cast<float *>(scratch);
    static_assert(sizeof(float) * GROUP * CHUNK <= SCRATCH_SIZE, "");
    for (int64_t at = start; at < end; at += CHUNK) {
        const int64_t count = std::min<int64_t>(end - at, CHUNK);
        const uint8_t * from = weights + static_cast<size_t>(at) * 2 * GROUP;
        LB_ROLLED for (int64_t i = 0; i < count; i++) { // half of the rows of a pair of values
            const vec pairs = wasm_v128_load(from + 16 * i);
            float * values = wide + i / 2 * 16 + i % 2 * 4;
            wasm_v128_store(values, wasm_f32x4_mul(first(pairs), factor));
            wasm_v128_store(values + 8, wasm_f32x4_mul(second(pairs), factor));
        }
        for (int64_t i = 0; i < n; i++) {
            vec sums[8];
            load_sums(at == 0, to + 4 * i, sums);
            tile(count, reinterpret_cast<const char *>(wide),
                 activations + static_cast<size_t>(i) * group_size + static_cast<size_t>(at) * 16, sums);
            store_sums(to + 4 * i, sums);
        }
    }
}

constexpr kernels HALVES = {gemv, gemm, nullptr};

} // namespace

const format F16 = {GGML_TYPE_F16, F16_ACTIVATIONS, STEP, 2 * STEP, sizeof(half_block), pack, unpack, {HALVES, HALVES}, FEW_GROUPS};

} // namespace lb
