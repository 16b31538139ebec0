// Takes the place of functions of ggml's vec.cpp (CMakeLists.txt says how) that have no WebAssembly version there and call
// expf, or convert half precision, a value at a time.
#include "vec.h"

#include "simd.h"

using lb::vec;

namespace {

vec silu(vec x) {
    const vec one = wasm_f32x4_const_splat(1.0f);
    return wasm_f32x4_div(x, wasm_f32x4_add(one, lb::exponential(wasm_f32x4_neg(x))));
}

// The last values, fewer than four, in a vector of zeros.
vec load_tail(const float * x, int n) {
    alignas(16) float values[4] = {0, 0, 0, 0};
    for (int i = 0; i < n; i++) {
        values[i] = x[i];
    }
    return wasm_v128_load(values);
}

void store_tail(float * to, vec v, int n) {
    alignas(16) float values[4];
    wasm_v128_store(values, v);
    for (int i = 0; i < n; i++) {
        to[i] = values[i];
    }
}

} // namespace

void ggml_vec_silu_f32(const int n, float * y, const float * x) {
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        wasm_v128_store(y + i, silu(wasm_v128_load(x + i)));
    }
    store_tail(y + i, silu(load_tail(x + i, n - i)), n - i);
}

void ggml_vec_swiglu_f32(const int n, float * y, const float * x, const float * g) {
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        wasm_v128_store(y + i, wasm_f32x4_mul(silu(wasm_v128_load(x + i)), wasm_v128_load(g + i)));
    }
    store_tail(y + i, wasm_f32x4_mul(silu(load_tail(x + i, n - i)), load_tail(g + i, n - i)), n - i);
}

// y = e to the power of x - max; their sum.
ggml_float ggml_vec_soft_max_f32(const int n, float * y, const float * x, float max) {
    const vec most = wasm_f32x4_splat(max);
    vec low = lb::zeros(), high = low; // double precision, as elsewhere: a row may have 100,000 values
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        const vec e = lb::exponential(wasm_f32x4_sub(wasm_v128_load(x + i), most));
        wasm_v128_store(y + i, e);
        low = wasm_f64x2_add(low, wasm_f64x2_promote_low_f32x4(e));
        high = wasm_f64x2_add(high, wasm_f64x2_promote_low_f32x4(wasm_i32x4_shuffle(e, e, 2, 3, 2, 3)));
    }
    const vec e = lb::exponential(wasm_f32x4_sub(load_tail(x + i, n - i), most));
    store_tail(y + i, e, n - i);
    low = wasm_f64x2_add(low, high);
    ggml_float sum = wasm_f64x2_extract_lane(low, 0) + wasm_f64x2_extract_lane(low, 1);
    for (; i < n; i++) {
        sum += static_cast<ggml_float>(y[i]);
    }
    return sum;
}

void ggml_vec_dot_f16(int n, float * GGML_RESTRICT s, size_t, ggml_fp16_t * GGML_RESTRICT x, size_t, ggml_fp16_t * GGML_RESTRICT y,
                      size_t, int) {
    vec sums[2] = {lb::zeros(), lb::zeros()};
    int i = 0;
    LB_ROLLED for (; i + 8 <= n; i += 8) {
        sums[0] = lb::multiply_add(lb::exact_halves(x + i), lb::exact_halves(y + i), sums[0]);
        sums[1] = lb::multiply_add(lb::exact_halves(x + i + 4), lb::exact_halves(y + i + 4), sums[1]);
    }
    float sum = lb::sum_of(wasm_f32x4_add(sums[0], sums[1]));
    for (; i < n; i++) {
        sum += GGML_CPU_FP16_TO_FP32(x[i]) * GGML_CPU_FP16_TO_FP32(y[i]);
    }
    *s = sum;
}
