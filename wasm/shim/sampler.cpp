// How the next token is drawn.
#include <algorithm>
#include <cmath>

#include "state.h"

using lb::current;
using lb::fail;

namespace {

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
