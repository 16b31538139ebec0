// Activations laid out as the kernels read them: at eight bits, or for weights of half precision at sixteen.
//
// Those of eight bits are the numbers of ggml's own Q8_0 (a scale for 32 values, rounded to half precision) and Q8_K (one for
// 256), so that results stay next to those of the native backend.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace lb {

// How a weight format wants the activations it is multiplied with.
struct activation_kind {
    int block; // values per scale: 32 or 256
    int unit;  // values of one row that stand together in a group of four rows: 4, or 2 for weights of eight bits
    int zero;  // what codes of weights have above their values; the sums that undo it are stored per `sub` values
    int sub;   // 32 or 16
    bool sums; // of 32 values, for weights with a minimum
    bool wide; // sixteen bits
    bool by_sign; // two of each: what is above 0, or 0, and what is below, without the sign
};

// Where the parts of one group of `rows` rows of `k` values are, in bytes from its start. In the header, because kernels ask for
// each eight rows of weights, and of a kind that they know it is a few additions.
struct activation_layout {
    size_t below, scales, corrections, sums, size; // below: only if they are there by sign

    activation_layout(const activation_kind & kind, int64_t k, int rows) {
        const auto values = static_cast<size_t>(k), n = static_cast<size_t>(rows);
        below = values * n;
        scales = padded(values * n * (is_wide(kind, rows) || kind.by_sign ? 2 : 1));
        corrections = scales + padded(values / static_cast<size_t>(kind.block) * n * sizeof(float));
        sums = corrections + padded(kind.zero != 0 ? values / static_cast<size_t>(kind.sub) * n * 4 : 0);
        size = sums + padded(kind.sums ? values / 32 * n * 2 : 0);
    }

    // Whether values take 16 bits.
    static bool is_wide(const activation_kind & kind, int rows) { return kind.wide || (rows == 4 && kind.unit == 2); }

  private:
    static size_t padded(size_t n) { return (n + 15) & ~static_cast<size_t>(15); }
};

// A group of 1 or 4 rows. The parts are:
//   values       int8 [k / unit][rows][unit]; int16 where they have sixteen bits, or four rows have units of 2; by sign: twice
//   scales       float [k / block][rows]          for blocks of 32 values of eight bits times HALF_FACTOR
//   corrections  int16 [k / sub][rows][2]      -zero * sum of the values in even and in odd pairs
//   sums         int16 [k / 256][rows][8]      of 32 values
void prepare_activations(const activation_kind & kind, int64_t k, int rows, const float * const * from, void * to);

} // namespace lb
