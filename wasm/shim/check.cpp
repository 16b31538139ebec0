// Single operations on given numbers, for tests that hold the kernels against a reference, and time them.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "state.h"

using lb::fail;

namespace {

struct free_context {
    void operator()(ggml_context * p) const { ggml_free(p); }
};
struct free_buffer {
    void operator()(ggml_backend_buffer * p) const { ggml_backend_buffer_free(p); }
};
struct free_backend {
    void operator()(ggml_backend * p) const { ggml_backend_free(p); }
};

// The buffer type of packed weights, or null where there is none.
ggml_backend_buffer_type_t packed_type() {
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    auto get = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
    ggml_backend_buffer_type_t * types = get ? get(device) : nullptr;
    return types ? types[0] : nullptr;
}

// Each thread takes, fills, resizes and gives back as many blocks as its input says; its result is how many of them did
// not hold what it had written.
void allocate(ggml_tensor * results, const ggml_tensor * counts, int thread, int, void *) {
    struct block {
        uint8_t * data;
        size_t size;
    } blocks[32] = {};
    const auto mark = static_cast<uint8_t>(thread + 1);
    auto random = static_cast<uint32_t>(mark);
    auto is_marked = [&](const block & b, size_t size) {
        return std::all_of(b.data, b.data + std::min(b.size, size), [&](uint8_t byte) { return byte == mark; });
    };
    float wrong = 0;
    for (float i = 0; i < static_cast<const float *>(counts->data)[thread]; i++) {
        random = 1664525 * random + 1013904223; // W. H. Press et al., Numerical Recipes
        block & b = blocks[random >> 27];
        const size_t size = 1 + (random >> 12) % 2000;
        wrong += is_marked(b, b.size) ? 0 : 1;
        if (random >> 26 & 1) {
            b.data = static_cast<uint8_t *>(std::realloc(b.data, size));
            wrong += is_marked(b, size) ? 0 : 1;
        } else {
            std::free(b.data);
            b.data = static_cast<uint8_t *>(std::malloc(size));
        }
        b.size = size;
        std::memset(b.data, mark, size);
    }
    for (const block & b : blocks) {
        std::free(b.data);
    }
    static_cast<float *>(results->data)[thread] = wrong;
}

int32_t check(const lb_check_params & p, const void * const * inputs, float * out) {
    ggml_init_params init = {16 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true};
    const std::unique_ptr<ggml_context, free_context> context(ggml_init(init));
    ggml_context * c = context.get();
    const auto type = static_cast<ggml_type>(p.type);
    ggml_tensor * in[5] = {};
    ggml_tensor * result = nullptr;
    switch (p.op) {
    case LB_CHECK_PRODUCT:
        in[0] = ggml_new_tensor_2d(c, type, p.sizes[0], p.sizes[1]);
        in[1] = ggml_new_tensor_2d(c, GGML_TYPE_F32, p.sizes[0], p.sizes[2]);
        result = ggml_mul_mat(c, in[0], in[1]);
        break;
    case LB_CHECK_EXPERTS: // sizes: k, rows, experts, experts per token, tokens
        in[0] = ggml_new_tensor_3d(c, type, p.sizes[0], p.sizes[1], p.sizes[2]);
        in[1] = ggml_new_tensor_3d(c, GGML_TYPE_F32, p.sizes[0], p.sizes[3], p.sizes[4]);
        in[2] = ggml_new_tensor_2d(c, GGML_TYPE_I32, p.sizes[3], p.sizes[4]);
        result = ggml_mul_mat_id(c, in[0], in[1], in[2]);
        break;
    case LB_CHECK_ROWS:
        in[0] = ggml_new_tensor_2d(c, type, p.sizes[0], p.sizes[1]);
        in[1] = ggml_new_tensor_1d(c, GGML_TYPE_I32, p.sizes[2]);
        result = ggml_get_rows(c, in[0], in[1]);
        break;
    case LB_CHECK_ATTENTION: // sizes: head, tokens, heads, K and V heads, keys, sinks or not
        in[0] = ggml_new_tensor_3d(c, GGML_TYPE_F32, p.sizes[0], p.sizes[1], p.sizes[2]);
        in[1] = ggml_new_tensor_3d(c, type, p.sizes[0], p.sizes[4], p.sizes[3]);
        in[2] = ggml_new_tensor_3d(c, type, p.sizes[0], p.sizes[4], p.sizes[3]);
        in[3] = ggml_new_tensor_2d(c, GGML_TYPE_F16, p.sizes[4], p.sizes[1]);
        result = ggml_flash_attn_ext(c, in[0], in[1], in[2], in[3], p.factors[0], p.factors[1], p.factors[2]);
        if (p.sizes[5] != 0) {
            in[4] = ggml_new_tensor_1d(c, GGML_TYPE_F32, p.sizes[2]);
            ggml_flash_attn_ext_add_sinks(result, in[4]);
        }
        break;
    case LB_CHECK_SILU:
        in[0] = ggml_new_tensor_2d(c, GGML_TYPE_F32, p.sizes[0], p.sizes[1]);
        result = ggml_silu(c, in[0]);
        break;
    case LB_CHECK_SWIGLU:
        in[0] = ggml_new_tensor_2d(c, GGML_TYPE_F32, p.sizes[0], p.sizes[1]);
        in[1] = ggml_new_tensor_2d(c, GGML_TYPE_F32, p.sizes[0], p.sizes[1]);
        result = ggml_swiglu_split(c, in[0], in[1]);
        break;
    case LB_CHECK_SOFTMAX:
        in[0] = ggml_new_tensor_2d(c, GGML_TYPE_F32, p.sizes[0], p.sizes[1]);
        result = ggml_soft_max(c, in[0]);
        break;
    case LB_CHECK_MALLOC:
        in[0] = ggml_new_tensor_1d(c, GGML_TYPE_F32, p.threads);
        result = ggml_map_custom1(c, in[0], allocate, p.threads, nullptr);
        break;
    default: return fail(LB_BAD_ARGUMENT, "no such operation");
    }

    const std::unique_ptr<ggml_backend, free_backend> backend(ggml_backend_cpu_init());
    ggml_threadpool_params pool = ggml_threadpool_params_default(p.threads);
    const std::unique_ptr<ggml_threadpool, lb::free_threads> threads(ggml_threadpool_new(&pool));
    ggml_backend_cpu_set_n_threads(backend.get(), p.threads);
    ggml_backend_cpu_set_threadpool(backend.get(), threads.get());
    std::unique_ptr<ggml_backend_buffer, free_buffer> weights;
    int32_t packed = 0;
    if (p.packed != 0 && packed_type() != nullptr) {
        // As llama.cpp asks: with the tensor in an empty buffer of the type.
        in[0]->buffer = ggml_backend_buft_alloc_buffer(packed_type(), 0);
        packed = ggml_backend_supports_op(backend.get(), result) ? 1 : 0;
        ggml_backend_buffer_free(in[0]->buffer);
        in[0]->buffer = nullptr;
        if (packed != 0) {
            weights.reset(ggml_backend_buft_alloc_buffer(packed_type(), ggml_backend_buft_get_alloc_size(packed_type(), in[0])));
            if (!weights) {
                return fail(LB_OUT_OF_MEMORY, "out of memory");
            }
            ggml_backend_tensor_alloc(weights.get(), in[0], ggml_backend_buffer_get_base(weights.get()));
        }
    }
    const std::unique_ptr<ggml_backend_buffer, free_buffer> others(ggml_backend_alloc_ctx_tensors(c, backend.get()));
    if (!others) {
        return fail(LB_OUT_OF_MEMORY, "out of memory");
    }
    for (int i = 0; i < 5 && in[i] != nullptr; i++) {
        ggml_backend_tensor_set(in[i], inputs[i], 0, ggml_nbytes(in[i]));
    }
    ggml_cgraph * graph = ggml_new_graph(c);
    ggml_build_forward_expand(graph, result);
    for (int32_t i = 0; i < p.repeat; i++) {
        if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
            return fail(LB_ENGINE_ERROR, "the operation failed");
        }
    }
    std::memcpy(out, result->data, ggml_nbytes(result));
    return packed;
}

} // namespace

int32_t lb_check(const lb_check_params * params, const void * const * inputs, float * out) {
    return lb::guarded([&] {
        return params != nullptr && inputs != nullptr && out != nullptr ? check(*params, inputs, out)
                                                                        : fail(LB_BAD_ARGUMENT, "an argument is null");
    });
}
