// What a template may use: edits.py puts lb_chat_step into llama.cpp's Jinja, and each allocation counts.
#include "bounds.h"

#include <cstdint>
#include <cstdlib>
#include <new>

#include "small_blocks.h"

extern "C" int lb_refused; // runtime/malloc.c

namespace lb_chat {

namespace {

// An analysis of a template takes some 300,000 units, a render some 300 for each message. A second gives ten million.
constexpr uint64_t BASE = 10'000'000;
constexpr uint64_t PER_BYTE = 32;

uint64_t left = 0;
bool counting = false;

// llama.cpp catches what a template throws and tries something else. So everything after the first throws, too.
inline void charge(uint64_t units) {
    if (!counting) {
        return;
    }
    if (left < units || lb_refused) {
        left = 0;
        exceeded = true;
        throw std::bad_alloc();
    }
    left -= units;
}

} // namespace

bool exceeded = false;

void allow(size_t argument_size) {
    left = BASE + PER_BYTE * argument_size;
    exceeded = false;
    counting = true;
    lb_refused = 0;
}

void end_counting() {
    counting = false;
}

} // namespace lb_chat

void lb_chat_step(size_t steps) {
    lb_chat::charge(steps);
}

void * operator new(size_t size) {
    lb_chat::charge(1 + size / 8);
    if (void * block = lb_chat::take_block(size)) {
        return block;
    }
    throw std::bad_alloc();
}

void operator delete(void * block) noexcept {
    lb_chat::give_block_back(block);
}

void operator delete(void * block, size_t) noexcept {
    lb_chat::give_block_back(block);
}
