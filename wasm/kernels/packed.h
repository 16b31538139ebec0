// Weights as the kernels read them: eight rows together, in one stream from first to last byte.
//
// A group of eight rows is stored block by block. Codes of four neighbouring values of a row form a word; the words of
// rows 0 to 3 make a vector, those of rows 4 to 7 the next. So one broadcast word of activations meets four rows
// in one instruction. Words keep the bits that the file has, so packing only moves them.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "activations.h"
#include "ggml.h"
#include "simd.h"

namespace lb {

enum { GROUP = 8, FEW_GROUPS = 4 };

// How bytes are multiplied: see simd.h. It changes no result, and is not changed while an operation runs.
extern byte_sums byte_products;

struct kernels {
    activation_kind activations;
    // to[0..7] = eight rows times one row of activations.
    void (*gemv)(int64_t k, const uint8_t * weights, const char * activations, float * to);
    // The same for `n` groups of four rows of activations; to[4 * i + a] is where their results go. Of the k values only
    // those from `start` to `end`, multiples of 256 or k, added to what is there unless they are the first.
    void (*gemm)(int64_t k, int64_t start, int64_t end, const uint8_t * weights, const char * activations, size_t group_size,
                 int64_t n, float * const * to, char * scratch);
    // The same for the first `rows`, 2 to 4, of one group and all k values, set in to[a][0..7]. It reads the weights in one stream,
    // with no scratch memory between, which is faster where few rows meet them. May be null.
    void (*few)(int64_t k, const uint8_t * weights, const char * activations, int rows, float * const * to);
};

struct format {
    ggml_type type;
    int values;         // of one row in a packed block
    size_t block_size;  // bytes of them in the file
    size_t packed_size; // bytes of a block of eight rows, packed

    // One block of eight rows; `stride` bytes from row to row.
    void (*pack)(const uint8_t * from, size_t stride, uint8_t * to);
    // The file's block of one of the rows.
    void (*unpack)(const uint8_t * from, int row, uint8_t * to);
    kernels by[2]; // in pairs and in fours; twice the same where bytes are not multiplied as bytes
    int few_groups; // so many groups at most meet the weights eight rows at a time, which then come from memory once
};

// The format of weights of this type, or nullptr where ggml's own kernels do it.
const format * find_format(ggml_type type);

enum { SCRATCH_SIZE = 24 * 1024 }; // for gemm, per thread

} // namespace lb
