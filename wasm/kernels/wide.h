// How Q8_0 and F16 are packed, and the kernels of Q8_0 in fours.
#pragma once

#include "packed.h"

namespace lb {

// Eight scales at half precision, then 16 pairs of codes of each row.
template <typename code> struct wide_block {
    uint16_t scales[GROUP];
    code pairs[16][GROUP][2];
};

// See `kernels` in packed.h.
void gemv_by_sign(int64_t k, const uint8_t * weights, const char * activations, float * to);
void gemm_by_sign(int64_t k, int64_t start, int64_t end, const uint8_t * weights, const char * activations, size_t group_size,
                  int64_t n, float * const * to, char * scratch);
void few_by_sign(int64_t k, const uint8_t * weights, const char * activations, int rows, float * const * to);

} // namespace lb
