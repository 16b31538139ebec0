// The KV cache, and steps of an answer.
#include <algorithm>
#include <cstring>
#include <vector>

#include "state.h"

using lb::current;
using lb::fail;

namespace {

// The first position that the token after `length` others still attends to.
int32_t window_start(int32_t length) {
    const int32_t n_swa = llama_model_n_swa(current.model.get());
    return n_swa > 0 ? std::max(0, length - n_swa + 1) : 0;
}

int32_t decode(const int32_t * tokens, int32_t n_tokens) {
    if (current.encoder) {
        return fail(LB_ENGINE_ERROR, "the model only embeds");
    }
    if (n_tokens < 1 || n_tokens > static_cast<int32_t>(llama_n_batch(current.context.get()))) {
        return fail(LB_BAD_ARGUMENT, "n_tokens must be from 1 to n_batch");
    }
    std::vector<llama_token> batch(tokens, tokens + n_tokens);
    for (const llama_token token : batch) {
        if (!current.is_token(token)) {
            return fail(LB_BAD_ARGUMENT, "no such token: " + std::to_string(token));
        }
    }
    const auto n_ctx = static_cast<int32_t>(llama_n_ctx(current.context.get()));
    if (n_tokens > n_ctx - current.length()) {
        return fail(LB_CONTEXT_FULL, "the context of " + std::to_string(n_ctx) + " tokens is full");
    }
    if (lb::cancelled()) {
        return fail(LB_CANCELLED, "cancelled");
    }
    current.has_logits = false;
    lb::listen();
    const int32_t result = llama_decode(current.context.get(), llama_batch_get_one(batch.data(), n_tokens));
    switch (result) {
    case 0:
        current.has_logits = true;
        return LB_OK;
    case 1: return fail(LB_CONTEXT_FULL, "no room left in the KV cache");
    case 2: return fail(LB_CANCELLED, "cancelled");
    default: break;
    }
    return fail(lb::status_of_failure(), "llama_decode returned " + std::to_string(result) + ": " + lb::logged_errors());
}

} // namespace

namespace lb {

const float * checked_logits() {
    if (!current.has_logits) {
        fail(LB_ENGINE_ERROR, "there are no logits: decode something first");
        return nullptr;
    }
    const float * logits = llama_get_logits_ith(current.context.get(), -1);
    uint32_t largest = 0; // magnitude, as a number: that of NaN is above infinity's. Four at once, where isnan() takes one
    for (int32_t i = 0; i < current.n_vocab; i++) {
        uint32_t bits;
        memcpy(&bits, logits + i, sizeof bits);
        largest = std::max(largest, bits & 0x7fffffffu);
    }
    if (largest > 0x7f800000u) {
        fail(LB_ENGINE_ERROR, "llama.cpp computed NaN: the model is damaged, or the KV cache");
        return nullptr;
    }
    return logits;
}

} // namespace lb

int32_t lb_length(void) {
    return lb::with_model([] { return current.length(); });
}

int32_t lb_clear(void) {
    return lb::with_model([] {
        llama_memory_clear(current.memory(), false);
        current.has_logits = false;
        return static_cast<int32_t>(LB_OK);
    });
}

int32_t lb_truncate(int32_t length) {
    return lb::with_model([&]() -> int32_t {
        const int32_t now = current.length();
        if (length < 0 || length > now) {
            return fail(LB_BAD_ARGUMENT, "length must be from 0 to " + std::to_string(now));
        }
        if (length == 0) {
            return lb_clear() == LB_OK ? 1 : 0;
        }
        if (length < now) {
            // A sliding-window cache says yes even when tokens that the next one must see are gone.
            if (current.stateful || llama_memory_seq_pos_min(current.memory(), 0) > window_start(length) ||
                !llama_memory_seq_rm(current.memory(), 0, length, -1)) {
                return 0;
            }
        }
        current.has_logits = false;
        return 1;
    });
}

int32_t lb_decode(const int32_t * tokens, int32_t n_tokens) {
    return lb::with_model([&] {
        return tokens != nullptr ? decode(tokens, n_tokens) : fail(LB_BAD_ARGUMENT, "tokens must not be null");
    });
}

const float * lb_logits(void) {
    const float * logits = nullptr;
    lb::with_model([&] {
        logits = lb::checked_logits();
        return static_cast<int32_t>(LB_OK);
    });
    return logits;
}
