// Between llama.cpp's reading of a model and its first use.
#pragma once

#include <stdint.h>

namespace lb {

// Before a model is read: forgets tensors of one that could not be read to its end.
void forget_weights();

// After it: packs, in place, all weights that have kernels for it.
void pack_weights();

// Whether its KV cache has several sequences, and layers that see a sliding window of them only.
void attend_to(bool several_sequences, bool sliding_window);

// Bytes are multiplied with sums of pairs, 0, or of fours, 1, from now on; any other number changes nothing. What is in force.
int32_t multiply_bytes_by(int32_t form);

} // namespace lb
