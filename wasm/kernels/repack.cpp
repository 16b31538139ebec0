// Takes the place of ggml's repack.cpp: the buffer type that holds packed weights, and the operations on them.
//
// ggml asks for this buffer type by ggml_backend_cpu_repack_buffer_type() and for nothing else, so nothing of it is
// changed. Matrix products of one token run gemv, those of a few run few; more tokens go in groups of four through gemm, eight
// rows of weights at a time, so that those stay in the first-level cache while the activations pass by. Rows of the token
// embedding can be read from packed weights too: a model that uses it at both ends holds it once.
#include "repack.h"

#include <string.h>

#include <algorithm>
#include <vector>

#include "attention.h"
#include "ggml-backend-impl.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "formats.h"
#include "packed.h"
#include "traits.h"
#include "weights.h"

namespace lb {

byte_sums byte_products = PAIRS;

const format * find_format(ggml_type type) {
    for (const format * f : {&F16, &Q4_0, &Q5_0, &Q8_0, &Q4_K, &Q5_K, &Q6_K}) {
        if (f->type == type) {
            return f;
        }
    }
    return nullptr;
}

namespace {

size_t packed_group_size(const format & f, int64_t k) {
    return static_cast<size_t>(k / f.values) * f.packed_size;
}

// Of so many rows; the last group may not be full.
int64_t groups_of(int64_t rows) {
    return (rows + GROUP - 1) / GROUP;
}

const format * format_of(const ggml_tensor * t) {
    const format * f = find_format(t->type);
    const bool rows = t->ne[1] % GROUP == 0 || (t->ne[1] > GROUP && ggml_n_dims(t) == 2);
    return f && rows && t->ne[0] % f->values == 0 ? f : nullptr;
}

// The packed weights that a tensor, possibly a view of some of the rows of another, stands for.
struct packed_rows {
    const format * f;
    const uint8_t * groups;
    size_t group_size;

    explicit packed_rows(const ggml_tensor * t) : f(format_of(t)), group_size(packed_group_size(*f, t->ne[0])) {
        const ggml_tensor * whole = t->view_src ? t->view_src : t;
        const int64_t first = t->view_src ? static_cast<int64_t>(t->view_offs / ggml_row_size(t->type, t->ne[0])) : 0;
        GGML_ASSERT(whole->ne[0] == t->ne[0] && first % GROUP == 0);
        groups = static_cast<const uint8_t *>(whole->data) + static_cast<size_t>(first / GROUP) * group_size;
    }

    const uint8_t * group(int64_t row) const { return groups + static_cast<size_t>(row / GROUP) * group_size; }
};

const float * row_of(const ggml_tensor * t, int64_t i1, int64_t i2, int64_t i3) {
    return reinterpret_cast<const float *>(static_cast<const char *>(t->data) + static_cast<size_t>(i1) * t->nb[1] +
                                           static_cast<size_t>(i2) * t->nb[2] + static_cast<size_t>(i3) * t->nb[3]);
}

// Row `i` of all the rows of a tensor of up to four dimensions.
const float * row_of(const ggml_tensor * t, int64_t i) {
    return row_of(t, i % t->ne[1], i / t->ne[1] % t->ne[2], i / (t->ne[1] * t->ne[2]));
}

// The work buffer: activations, in groups of four and then one by one, and scratch memory for each thread. Two or three that are
// left are a group, too, where the format has a kernel for so many.
struct work {
    int64_t whole, left, groups, singles; // groups of four; in the last group, or 0; all groups
    size_t single_size, group_size;
    char * activations;
    char * scratch;

    work(const format & f, int64_t k, int64_t rows, const ggml_compute_params * params)
        : whole(rows / 4), left(f.by[byte_products].few != nullptr && rows % 4 > 1 ? rows % 4 : 0), groups(whole + (left > 0 ? 1 : 0)),
          singles(rows % 4 - left), single_size(activation_layout(f.by[byte_products].activations, k, 1).size),
          group_size(activation_layout(f.by[byte_products].activations, k, 4).size), activations(static_cast<char *>(params->wdata)),
          scratch(activations + end() + static_cast<size_t>(params->ith) * SCRATCH_SIZE) {
        GGML_ASSERT(end() + static_cast<size_t>(params->nth) * SCRATCH_SIZE <= params->wsize);
    }

    static size_t size(const format & f, int64_t k, int64_t rows, int n_threads) {
        const activation_kind & kind = f.by[byte_products].activations;
        const size_t four = activation_layout(kind, k, 4).size, one = activation_layout(kind, k, 1).size;
        return static_cast<size_t>(rows / 4) * four + std::max(four, static_cast<size_t>(rows % 4) * one) +
               static_cast<size_t>(n_threads) * SCRATCH_SIZE;
    }

    size_t end() const { return static_cast<size_t>(groups) * group_size + static_cast<size_t>(singles) * single_size; }
    int rows_of(int64_t group) const { return group < whole ? 4 : static_cast<int>(left); }
    char * group(int64_t i) const { return activations + static_cast<size_t>(i) * group_size; }
    char * single(int64_t i) const { return group(groups) + static_cast<size_t>(i) * single_size; }
};

// Groups of four rows that meet the weights at once, and bytes of them: they stay in the second-level cache, so of long rows
// only as many values as fit. Weights are expanded anew for each so many groups, results read anew for each so many values.
enum { MAX_GROUPS = 64, GROUPS_SIZE = 640 * 1024 };

// Runs product(to) for eight rows of weights, of which only `count` exist: to[i][0..7] are token i's, to be added to or set.
template <typename Product> void last_rows(float * const * results, int64_t n, int64_t count, Product && product) {
    float all[4 * MAX_GROUPS][GROUP] = {};
    float * to[4 * MAX_GROUPS];
    for (int64_t i = 0; i < n; i++) {
        to[i] = all[i];
        memcpy(all[i], results[i], static_cast<size_t>(count) * sizeof(float));
    }
    product(to);
    for (int64_t i = 0; i < n; i++) {
        memcpy(results[i], all[i], static_cast<size_t>(count) * sizeof(float));
    }
}

struct span {
    int64_t from, to;
};

// Some values of some rows of weights, from a multiple of eight on, times some groups of four activations.
void multiply_groups(const packed_rows & rows, const work & w, span values, span of_weights, span groups, ggml_tensor * dst) {
    const int64_t k = dst->src[0]->ne[0], n = groups.to - groups.from, whole = of_weights.to / GROUP * GROUP;
    float * results[4 * MAX_GROUPS];
    for (int64_t i = 0; i < 4 * n; i++) {
        results[i] = const_cast<float *>(row_of(dst, 4 * groups.from + i)) + of_weights.from;
    }
    const auto gemm = [&](int64_t row, float * const * to) {
        rows.f->by[byte_products].gemm(k, values.from, values.to, rows.group(row), w.group(groups.from), w.group_size, n, to, w.scratch);
    };
    for (int64_t row = of_weights.from; row < whole; row += GROUP) {
        gemm(row, results);
        for (int64_t i = 0; i < 4 * n; i++) {
            results[i] += GROUP;
        }
    }
    if (whole < of_weights.to) {
        last_rows(results, 4 * n, of_weights.to - whole, [&](float * const * eight) { gemm(whole, eight); });
    }
}

// Some rows of weights, eight at a time, times groups of activations from one on, and all the single ones.
void multiply_few(const packed_rows & rows, const work & w, span of_weights, int64_t first, ggml_tensor * dst) {
    const format & f = *rows.f;
    const int64_t k = dst->src[0]->ne[0], n = 4 * (w.whole - first) + w.left + w.singles;
    float * results[4 * FEW_GROUPS + 3]; // of the tokens from 4 * first on
    for (int64_t i = 0; i < n; i++) {
        results[i] = const_cast<float *>(row_of(dst, 4 * first + i)) + of_weights.from;
    }
    for (int64_t row = of_weights.from; row < of_weights.to; row += GROUP) {
        const uint8_t * weights = rows.group(row);
        const auto product = [&](float * const * to) {
            if (f.by[byte_products].few == nullptr && first < w.whole) {
                f.by[byte_products].gemm(k, 0, k, weights, w.group(first), w.group_size, w.whole - first, to, w.scratch);
            }
            for (int64_t i = first; f.by[byte_products].few != nullptr && i < w.groups; i++) {
                f.by[byte_products].few(k, weights, w.group(i), w.rows_of(i), to + 4 * (i - first));
            }
            for (int64_t i = 0; i < w.singles; i++) {
                f.by[byte_products].gemv(k, weights, w.single(i), to[n - w.singles + i]);
            }
        };
        if (of_weights.to - row >= GROUP) {
            product(results);
        } else {
            last_rows(results, n, of_weights.to - row, product);
        }
        for (int64_t i = 0; i < n; i++) {
            results[i] += GROUP;
        }
    }
}

void multiply(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * weights = dst->src[0], *x = dst->src[1];
    const packed_rows rows(weights);
    const int64_t k = weights->ne[0], n_rows = weights->ne[1], n = ggml_nrows(x);
    const work w(*rows.f, k, n, params);

    for (int64_t i = params->ith; i < w.groups + w.singles; i += params->nth) {
        const bool grouped = i < w.groups;
        const int64_t first = grouped ? 4 * i : n - w.singles + i - w.groups;
        const int count = grouped ? w.rows_of(i) : 1;
        const float * from[4];
        for (int r = 0; r < 4; r++) {
            from[r] = row_of(x, first + std::min(r, count - 1)); // a place that no row has takes another's
        }
        prepare_activations(rows.f->by[byte_products].activations, k, grouped ? 4 : 1, from, grouped ? w.group(i) : w.single(i - w.groups));
    }

    const int64_t many = w.groups > rows.f->few_groups ? w.whole : 0; // groups that stay while weights pass by, not the other way round
    const int64_t at_once = std::clamp<int64_t>(many, 1, MAX_GROUPS);
    // In blocks of 256 values: as many as fit, and about as many in each piece.
    const int64_t blocks = (k + 255) / 256, fit = GROUPS_SIZE * k / (256 * at_once * static_cast<int64_t>(w.group_size));
    const int64_t pieces = (blocks + fit - 1) / fit;
    const int64_t piece = (blocks + pieces - 1) / pieces * 256;
    // Parts for each thread to take as it gets ready; many rows of weights each, so that few are taken.
    const int64_t n_groups = groups_of(n_rows);
    const int64_t parts = params->nth == 1 ? 1 : std::min<int64_t>(n_groups, 4 * params->nth);
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);
    for (int64_t part = params->ith; part < parts; part = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t from = n_groups * part / parts * GROUP;
        const int64_t to = std::min(n_groups * (part + 1) / parts * GROUP, n_rows);
        for (int64_t first = 0; first < many; first += at_once) {
            const int64_t count = std::min<int64_t>(at_once, many - first);
            for (int64_t start = 0; start < k; start += piece) {
                multiply_groups(rows, w, {start, std::min(start + piece, k)}, {from, to}, {first, first + count}, dst);
            }
        }
        if (4 * many < n) {
            multiply_few(rows, w, {from, to}, many, dst);
        }
    }
}

// Mixtures of experts: each row of activations meets the matrices that its ids name.
void multiply_by_id(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * weights = dst->src[0], *x = dst->src[1], *ids = dst->src[2];
    const packed_rows rows(weights);
    const int64_t k = weights->ne[0], n_rows = weights->ne[1], n = ggml_nrows(x);
    const size_t single_size = activation_layout(rows.f->by[byte_products].activations, k, 1).size;
    char * const activations = static_cast<char *>(params->wdata);
    GGML_ASSERT(static_cast<size_t>(n) * single_size <= params->wsize);

    for (int64_t i = params->ith; i < n; i += params->nth) {
        const float * from = row_of(x, i);
        prepare_activations(rows.f->by[byte_products].activations, k, 1, &from, activations + static_cast<size_t>(i) * single_size);
    }
    ggml_barrier(params->threadpool);

    const int64_t n_groups = n_rows / GROUP;
    const int64_t from = n_groups * params->ith / params->nth * GROUP, to = n_groups * (params->ith + 1) / params->nth * GROUP;
    for (int64_t expert = 0; expert < weights->ne[2]; expert++) { // each one's weights are read once, for all that want it
        for (int64_t token = 0; token < ids->ne[1]; token++) {
            for (int64_t slot = 0; slot < ids->ne[0]; slot++) {
                const auto * id = reinterpret_cast<const int32_t *>(static_cast<const char *>(ids->data) +
                                                                    static_cast<size_t>(token) * ids->nb[1] +
                                                                    static_cast<size_t>(slot) * ids->nb[0]);
                GGML_ASSERT(*id >= 0 && *id < weights->ne[2]);
                if (*id != expert) {
                    continue;
                }
                const char * y = activations + static_cast<size_t>(slot % x->ne[1] + token * x->ne[1]) * single_size;
                float * results = const_cast<float *>(row_of(dst, slot, token, 0));
                for (int64_t row = from; row < to; row += GROUP) {
                    rows.f->by[byte_products].gemv(k, rows.group(expert * n_rows + row), y, results + row);
                }
            }
        }
    }
}

void read_rows(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * weights = dst->src[0], *ids = dst->src[1];
    const packed_rows rows(weights);
    const int64_t k = weights->ne[0], length = rows.f->values;
    const ggml_to_float_t to_float = ggml_get_type_traits(weights->type)->to_float;
    std::vector<uint8_t> row(ggml_row_size(weights->type, k));
    for (int64_t i = params->ith; i < ggml_nelements(ids); i += params->nth) {
        const int64_t i0 = i % ids->ne[0], i1 = i / ids->ne[0] % ids->ne[1], i2 = i / (ids->ne[0] * ids->ne[1]);
        const int64_t id = *reinterpret_cast<const int32_t *>(static_cast<const char *>(ids->data) +
                                                              static_cast<size_t>(i0) * ids->nb[0] +
                                                              static_cast<size_t>(i1) * ids->nb[1] +
                                                              static_cast<size_t>(i2) * ids->nb[2]);
        GGML_ASSERT(id >= 0 && id < weights->ne[1]);
        const uint8_t * group = rows.group(i1 * weights->ne[1] + id);
        for (int64_t b = 0; b < k / length; b++) {
            rows.f->unpack(group + static_cast<size_t>(b) * rows.f->packed_size, static_cast<int>(id % GROUP),
                           row.data() + static_cast<size_t>(b) * rows.f->block_size);
        }
        to_float(row.data(), const_cast<float *>(row_of(dst, i0, i1, i2)), k);
    }
}

// ggml asks every extra buffer type about every operation, whatever buffer its tensors are in.
class attention_traits : public ggml::cpu::tensor_traits {
    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override {
        size = attention_work_size(op, n_threads);
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        attend(params, op);
        return true;
    }
};

class packed_traits : public ggml::cpu::tensor_traits {
    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override {
        switch (op->op) {
        case GGML_OP_MUL_MAT:
        case GGML_OP_MUL_MAT_ID: {
            const format & f = *format_of(op->src[0]);
            const int64_t k = op->src[0]->ne[0], n = ggml_nrows(op->src[1]);
            size = op->op == GGML_OP_MUL_MAT ? work::size(f, k, n, n_threads)
                                             : static_cast<size_t>(n) * activation_layout(f.by[byte_products].activations, k, 1).size;
            return true;
        }
        case GGML_OP_GET_ROWS: size = 0; return true;
        default: return false;
        }
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        switch (op->op) {
        case GGML_OP_MUL_MAT: multiply(params, op); return true;
        case GGML_OP_MUL_MAT_ID: multiply_by_id(params, op); return true;
        case GGML_OP_GET_ROWS: read_rows(params, op); return true;
        default: return false;
        }
    }
};

bool is_packed(const ggml_tensor * t) {
    return t->buffer && t->buffer->buft == ggml_backend_cpu_repack_buffer_type();
}

class packed_buffer_type : public ggml::cpu::extra_buffer_type {
    bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) override {
        if (!is_packed(op->src[0]) || !format_of(op->src[0]) || op->src[0]->ne[3] != 1) {
            return false;
        }
        const ggml_tensor * x = op->src[1];
        if (x->buffer && !ggml_backend_buft_is_host(x->buffer->buft)) {
            return false;
        }
        switch (op->op) {
        case GGML_OP_MUL_MAT: return ggml_n_dims(op->src[0]) <= 2 && x->type == GGML_TYPE_F32;
        case GGML_OP_MUL_MAT_ID: return x->type == GGML_TYPE_F32 && op->src[0]->ne[1] % GROUP == 0;
        case GGML_OP_GET_ROWS: return x->type == GGML_TYPE_I32 && ggml_n_dims(op->src[0]) <= 2;
        default: return false;
        }
    }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        static packed_traits traits;
        static attention_traits attention;
        if (op->op == GGML_OP_FLASH_ATTN_EXT) {
            return can_attend(op) ? &attention : nullptr;
        }
        const bool ours = op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_ID || op->op == GGML_OP_GET_ROWS;
        return ours && is_packed(op->src[0]) ? &traits : nullptr;
    }
};

const char * get_name(ggml_backend_buffer_type_t) {
    return "CPU_REPACK";
}

// Packs n rows. `from` may be where `to` is, or lie before it.
void pack_rows(const format & f, int64_t k, int64_t n, const uint8_t * from, uint8_t * to) {
    const size_t stride = static_cast<size_t>(k / f.values) * f.block_size, group_size = packed_group_size(f, k);
    std::vector<uint8_t> group(GROUP * stride); // rows that the last group lacks are zeros
    for (int64_t row = (groups_of(n) - 1) * GROUP; row >= 0; row -= GROUP) { // from the end: packed, a group may be larger
        memcpy(group.data(), from + static_cast<size_t>(row) * stride, static_cast<size_t>(std::min<int64_t>(GROUP, n - row)) * stride);
        uint8_t * block = to + static_cast<size_t>(row / GROUP) * group_size;
        for (int64_t b = 0; b < k / f.values; b++) {
            f.pack(group.data() + static_cast<size_t>(b) * f.block_size, stride, block);
            block += f.packed_size;
        }
    }
}

// Tensors whose data is still as it is in the file.
std::vector<ggml_tensor *> waiting;

ggml_status init_tensor(ggml_backend_buffer_t, ggml_tensor * t) {
    if (!t->view_src && format_of(t)) {
        waiting.push_back(t);
    }
    return GGML_STATUS_SUCCESS;
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor * t, const void * data, size_t offset, size_t size) {
    GGML_ASSERT(offset == 0 && size == ggml_nbytes(t));
    waiting.erase(std::remove(waiting.begin(), waiting.end(), t), waiting.end());
    pack_rows(*format_of(t), t->ne[0], ggml_nrows(t), static_cast<const uint8_t *>(data), static_cast<uint8_t *>(t->data));
}

// llama.cpp reads weights straight to where they stay only if that is said to be ordinary memory. Else it holds the
// largest tensor twice.
bool is_host(ggml_backend_buffer_type_t) {
    return true;
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer != nullptr) {
        buffer->buft = type;
        buffer->iface.init_tensor = init_tensor;
        buffer->iface.set_tensor = set_tensor;
        buffer->iface.get_tensor = nullptr;
        buffer->iface.cpy_tensor = nullptr;
    }
    return buffer;
}

size_t get_alignment(ggml_backend_buffer_type_t) {
    return 64;
}

size_t get_alloc_size(ggml_backend_buffer_type_t, const ggml_tensor * t) {
    const format * f = format_of(t);
    return f ? static_cast<size_t>(groups_of(ggml_nrows(t))) * packed_group_size(*f, t->ne[0]) : ggml_nbytes(t);
}

} // namespace

int32_t multiply_bytes_by(int32_t form) {
    if (form == PAIRS || form == FOURS) {
        byte_products = static_cast<byte_sums>(form);
    }
    return byte_products;
}

void forget_weights() {
    waiting.clear();
}

void pack_weights() {
    for (ggml_tensor * t : waiting) {
        auto * data = static_cast<uint8_t *>(t->data);
        pack_rows(*format_of(t), t->ne[0], ggml_nrows(t), data, data);
    }
    waiting.clear();
}

} // namespace lb

ggml_backend_buffer_type_t ggml_backend_cpu_repack_buffer_type(void) {
    static ggml_backend_buffer_type type = {
        {lb::get_name, lb::alloc_buffer, lb::get_alignment, nullptr, lb::get_alloc_size, lb::is_host},
        ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0),
        new lb::packed_buffer_type(),
    };
    return &type;
}
