// F16: no blocks and no scales; activations stay single precision, rounded to half precision as everywhere in ggml.
#include <string.h>

#include "formats.h"
#include "simd.h"

namespace lb {

namespace {

enum {
    STEP = 16,  // values of a row in one packed block
    CHUNK = 256, // values expanded at a time: eight rows of them, 8 KiB, stay in the first-level cache
};

// Value by value, of eight rows.
struct half_block {
    uint16_t values[STEP][GROUP];
};

void pack(const uint8_t * from, size_t stride, uint8_t * to) {
    for (int i = 0; i < STEP; i += 8) {
        vec rows[GROUP], columns[GROUP];
        for (int r = 0; r < GROUP; r++) {
            rows[r] = wasm_v128_load(from + static_cast<size_t>(r) * stride + 2 * static_cast<size_t>(i));
        }
        transpose16(rows, columns);
        for (int j = 0; j < 8; j++) {
            wasm_v128_store(to + 16 * (i + j), columns[j]);
        }
    }
}

void unpack(const uint8_t * from, int r, uint8_t * to) {
    const auto & packed = *reinterpret_cast<const half_block *>(from);
    for (int i = 0; i < STEP; i++) {
        memcpy(to + 2 * i, &packed.values[i][r], 2);
    }
}

void gemv(int64_t k, const uint8_t * weights, const char * activations, float * to) {
    const char * y = activations;
    const char * const end = y + 4 * k;
    vec a[4] = {zeros(), zeros(), zeros(), zeros()};
    LB_ROLLED do {
        const vec v = wasm_v128_load(y);
        a[0] = multiply_add(small_halves(weights), spread<0>(v), a[0]);
        a[1] = multiply_add(small_halves(weights + 8), spread<0>(v), a[1]);
        a[2] = multiply_add(small_halves(weights + 16), spread<1>(v), a[2]);
        a[3] = multiply_add(small_halves(weights + 24), spread<1>(v), a[3]);
        a[0] = multiply_add(small_halves(weights + 32), spread<2>(v), a[0]);
        a[1] = multiply_add(small_halves(weights + 40), spread<2>(v), a[1]);
        a[2] = multiply_add(small_halves(weights + 48), spread<3>(v), a[2]);
        a[3] = multiply_add(small_halves(weights + 56), spread<3>(v), a[3]);
        y += 16;
        weights += 64;
        LB_STEP(y, weights);
    } while (y != end);
    const vec factor = wasm_f32x4_const_splat(HALF_FACTOR / ACTIVATION_FACTOR);
    wasm_v128_store(to, wasm_f32x4_mul(wasm_f32x4_add(a[0], a[2]), factor));
    wasm_v128_store(to + 4, wasm_f32x4_mul(wasm_f32x4_add(a[1], a[3]), factor));
}

inline void tile(int64_t n, const char * weights, const char * y, vec * sums) {
    vec s[8];
    for (int i = 0; i < 8; i++) {
        s[i] = sums[i];
    }
    const char * const end = y + 16 * n;
    LB_ROLLED do {
        const vec v0 = wasm_v128_load(y), v1 = wasm_v128_load(y + 16);
        vec w0 = wasm_v128_load(weights), w1 = wasm_v128_load(weights + 16);
        add_outer(v0, w0, w1, s);
        w0 = wasm_v128_load(weights + 32);
        w1 = wasm_v128_load(weights + 48);
        add_outer(v1, w0, w1, s);
        y += 32;
        weights += 64;
        LB_STEP(y, weights);
    } while (y != end);
    for (int i = 0; i < 8; i++) {
        sums[i] = s[i];
    }
}

void gemm(int64_t k, const uint8_t * weights, const char * activations, size_t group_size, int64_t n, float * const * to,
          char * scratch) {
    const vec factor = wasm_f32x4_const_splat(HALF_FACTOR / ACTIVATION_FACTOR);
    auto * wide = reinterpret_cast<float *>(scratch);
    static_assert(sizeof(float) * GROUP * CHUNK <= SCRATCH_SIZE, "");
    for (int64_t first = 0; first < k; first += CHUNK) {
        const int64_t count = k - first < CHUNK ? k - first : CHUNK;
        const uint8_t * from = weights + static_cast<size_t>(first) * 2 * GROUP;
        LB_ROLLED for (int64_t i = 0; i < 2 * count; i++) {
            wasm_v128_store(wide + 4 * i, wasm_f32x4_mul(small_halves(from + 8 * i), factor));
        }
        for (int64_t i = 0; i < n; i++) {
            vec sums[8];
            load_sums(first == 0, to + 4 * i, sums);
            tile(count, reinterpret_cast<const char *>(wide),
                 activations + static_cast<size_t>(i) * group_size + static_cast<size_t>(first) * 16, sums);
            store_sums(to + 4 * i, sums);
        }
    }
}

} // namespace

const format F16 = {GGML_TYPE_F16, F16_ACTIVATIONS, STEP, 2 * STEP, sizeof(half_block), pack, unpack, gemv, gemm, true};

} // namespace lb
