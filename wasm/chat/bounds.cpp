// Counts the steps of a template: ../edits.py puts the calls into llama.cpp's Jinja.
#include "bounds.h"

#include <cstdint>
#include <stdexcept>

extern "C" int lb_refused; // runtime/malloc.c

namespace lb_chat {

namespace {

// Real templates take some 100 for each message, and one analysis of a template takes up to 100,000.
constexpr uint64_t BASE = 1'000'000;
constexpr uint64_t PER_BYTE = 4;

uint64_t left = BASE;

} // namespace

bool exceeded = false;

void allow(size_t argument_size) {
    left = BASE + PER_BYTE * argument_size;
    exceeded = false;
    lb_refused = 0;
}

} // namespace lb_chat

void lb_chat_step(size_t steps) {
    // llama.cpp catches what a template throws and tries something else. So everything after the first throws, too.
    if (lb_chat::left < steps || lb_refused) {
        lb_chat::left = 0;
        lb_chat::exceeded = true;
        throw std::runtime_error("the chat template needs more time or memory than any template should");
    }
    lb_chat::left -= steps;
}
