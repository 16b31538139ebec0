// Between llama.cpp's reading of a model and its first use.
#pragma once

namespace lb {

// Before a model is read: forgets tensors of one that could not be read to its end.
void forget_weights();

// After it: packs, in place, all weights that have kernels for it.
void pack_weights();

// Whether its KV cache has several sequences, and layers that see a sliding window of them only.
void attend_to(bool several_sequences, bool sliding_window);

} // namespace lb
