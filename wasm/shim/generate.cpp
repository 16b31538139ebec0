// The KV cache and the drawing of tokens.
#include <algorithm>
#include <cmath>
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
    lb::take_logged_errors();
    const int32_t result = llama_decode(current.context.get(), llama_batch_get_one(batch.data(), n_tokens));
    switch (result) {
    case 0:
        current.has_logits = true;
        return LB_OK;
    case 1: return fail(LB_CONTEXT_FULL, "no room left in the KV cache");
    case 2: return fail(LB_CANCELLED, "cancelled");
    default: break;
    }
    const std::string reason = lb::take_logged_errors();
    return fail(lb::status_of(reason), "llama_decode returned " + std::to_string(result) + ": " + reason);
}

const char * wrong_with(const lb_sampler_params & params) {
    for (const float value : {params.temperature, params.top_p, params.min_p, params.repeat_penalty,
                              params.frequency_penalty, params.presence_penalty}) {
        if (!std::isfinite(value)) {
            return "sampler parameters must be finite";
        }
    }
    if (params.repeat_penalty <= 0.0f) {
        return "repeat_penalty must be above 0";
    }
    if (params.repeat_last_n < 0) {
        return "repeat_last_n must not be negative";
    }
    return nullptr;
}

// The samplers that the parameters ask for, in llama.cpp's usual order.
llama_sampler * make_chain(const lb_sampler_params & params) {
    llama_sampler_chain_params chain_params = llama_sampler_chain_default_params();
    chain_params.no_perf = true;
    llama_sampler * chain = llama_sampler_chain_init(chain_params);
    if (params.repeat_last_n > 0 && (params.repeat_penalty != 1.0f || params.frequency_penalty != 0.0f ||
                                     params.presence_penalty != 0.0f)) {
        llama_sampler_chain_add(chain, llama_sampler_init_penalties(current.n_vocab, params.repeat_last_n,
                                                                    params.repeat_penalty, params.frequency_penalty,
                                                                    params.presence_penalty));
    }
    if (params.temperature <= 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        return chain;
    }
    if (params.top_k > 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_k(params.top_k));
    }
    if (params.top_p < 1.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_p(params.top_p, 1));
    }
    if (params.min_p > 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_min_p(params.min_p, 1));
    }
    llama_sampler_chain_add(chain, llama_sampler_init_temp(params.temperature));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(params.seed));
    return chain;
}

} // namespace

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
    if (!current.context || !current.has_logits) {
        return nullptr;
    }
    const float * logits = nullptr;
    lb::guarded([&] {
        logits = llama_get_logits_ith(current.context.get(), -1);
        return static_cast<int32_t>(LB_OK);
    });
    return logits;
}

int32_t lb_sampler(const lb_sampler_params * params, const int32_t * recent, int32_t n_recent) {
    return lb::with_model([&]() -> int32_t {
        if (params == nullptr || n_recent < 0 || (recent == nullptr && n_recent > 0)) {
            return fail(LB_BAD_ARGUMENT, "params or recent is missing");
        }
        if (const char * wrong = wrong_with(*params)) {
            return fail(LB_BAD_ARGUMENT, wrong);
        }
        if (!std::all_of(recent, recent + n_recent, [](int32_t token) { return current.is_token(token); })) {
            return fail(LB_BAD_ARGUMENT, "recent holds an id that is no token");
        }
        current.sampler.reset(make_chain(*params));
        for (int32_t i = 0; i < n_recent; ++i) {
            llama_sampler_accept(current.sampler.get(), recent[i]);
        }
        return LB_OK;
    });
}

int32_t lb_step(int32_t token) {
    return lb::with_model([&]() -> int32_t {
        if (!current.sampler) {
            return fail(LB_BAD_ARGUMENT, "no sampler: call lb_sampler first");
        }
        if (token != LLAMA_TOKEN_NULL) {
            if (const int32_t status = decode(&token, 1); status != LB_OK) {
                return status;
            }
        } else if (!current.has_logits) {
            return fail(LB_BAD_ARGUMENT, "no logits: decode at least one token first");
        }
        return llama_sampler_sample(current.sampler.get(), current.context.get(), -1);
    });
}
