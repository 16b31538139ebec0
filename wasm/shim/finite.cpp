// Whether a loaded model's weights are numbers. What is computed with NaN and infinity is not always NaN, so nobody would notice:
// ReLU and sigmoid make finite numbers of them, and the kernels take an infinite scale for a large one.
#include <cstdint>
#include <string>
#include <utility>

#include "ggml.h"
#include "llama-model.h"
#include "state.h"

namespace {

// Whether the exponent of some number is all ones, as those of NaN and infinity are. Many at a time, without a branch for each.
template <typename Bits> bool has_special(const void * data, size_t n_bytes, Bits exponent) {
    constexpr size_t AT_ONCE = 4096;
    const auto * bits = static_cast<const Bits *>(data);
    const size_t n = n_bytes / sizeof(Bits);
    for (size_t start = 0; start < n; start += AT_ONCE) {
        const size_t end = n - start < AT_ONCE ? n : start + AT_ONCE;
        Bits found = 0;
        for (size_t i = start; i < end; i++) {
            found |= static_cast<Bits>((bits[i] & exponent) == exponent);
        }
        if (found != 0) {
            return true;
        }
    }
    return false;
}

bool is_finite(const ggml_tensor * t) {
    switch (t->type) {
    case GGML_TYPE_F32: return !has_special<uint32_t>(t->data, ggml_nbytes(t), 0x7f800000);
    case GGML_TYPE_F16: return !has_special<uint16_t>(t->data, ggml_nbytes(t), 0x7c00);
    case GGML_TYPE_BF16: return !has_special<uint16_t>(t->data, ggml_nbytes(t), 0x7f80);
    default: return ggml_validate_row_data(t->type, t->data, ggml_nbytes(t));
    }
}

} // namespace

namespace lb {

std::string tensor_not_finite() {
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(current.model.get())) {
        if (tensor->data != nullptr && tensor->view_src == nullptr && !is_finite(tensor)) {
            return name;
        }
    }
    return "";
}

} // namespace lb
