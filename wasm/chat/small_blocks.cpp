// A render makes some ten thousand small values and frees them again. runtime/malloc.c joins each freed block with its
// neighbours and splits it for the next one; that was a quarter of a render. Here a freed block waits for one of its size.
#include "small_blocks.h"

#include <cstdlib>
#include <malloc.h>

extern "C" int lb_refused; // runtime/malloc.c

namespace lb_chat {

namespace {

constexpr size_t GRANULE = 16; // malloc's sizes are multiples of it, less its header
constexpr size_t HEADER = 8;
constexpr size_t CLASSES = 17; // up to 264 bytes

struct free_block {
    free_block * next;
};

free_block * waiting[CLASSES];

size_t class_of(size_t size) {
    return (size + HEADER - 1) / GRANULE;
}

// Back to malloc, which joins them.
void give_all_back() {
    for (free_block *& list : waiting) {
        while (free_block * block = list) {
            list = block->next;
            std::free(block);
        }
    }
}

} // namespace

void * take_block(size_t size) {
    const size_t which = class_of(size ? size : 1);
    if (which < CLASSES) {
        if (free_block * block = waiting[which]) {
            waiting[which] = block->next;
            return block;
        }
    }
    const int refused = lb_refused;
    void * block = std::malloc(size ? size : 1);
    if (!block) {
        give_all_back();
        lb_refused = refused;
        block = std::malloc(size ? size : 1);
    }
    return block;
}

void give_block_back(void * block) {
    if (!block) {
        return;
    }
    const size_t which = class_of(malloc_usable_size(block));
    if (which >= CLASSES) {
        std::free(block);
        return;
    }
    auto * freed = static_cast<free_block *>(block);
    freed->next = waiting[which];
    waiting[which] = freed;
}

} // namespace lb_chat
