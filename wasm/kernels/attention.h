// Attention with a half-precision K and V cache.
#pragma once

#include "ggml-cpu-impl.h"

namespace lb {

// Whether `op`, a GGML_OP_FLASH_ATTN_EXT, is one that attend() does.
bool can_attend(const ggml_tensor * op);

size_t attention_work_size(const ggml_tensor * op, int n_threads);

void attend(const ggml_compute_params * params, ggml_tensor * op);

} // namespace lb
