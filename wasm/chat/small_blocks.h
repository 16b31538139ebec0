// Lists of free small blocks, by size, in front of malloc.
#pragma once

#include <cstddef>

namespace lb_chat {

// A block of at least `size` bytes, or NULL.
void * take_block(size_t size);

// For a block from take_block, and NULL.
void give_block_back(void * block);

} // namespace lb_chat
