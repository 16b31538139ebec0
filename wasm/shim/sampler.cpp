// How the next token is drawn.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "state.h"

using lb::current;
using lb::fail;

namespace {

const char * wrong_with(const lb_sampler_params & params) {
    for (const float value :
         {params.temperature, params.top_p, params.min_p, params.repeat_penalty, params.frequency_penalty,
          params.presence_penalty, params.typical_p, params.top_n_sigma, params.xtc_probability, params.xtc_threshold,
          params.mirostat_tau, params.mirostat_eta, params.dynatemp_range, params.dynatemp_exponent, params.dry_multiplier,
          params.dry_base}) {
        if (!std::isfinite(value)) {
            return "sampler parameters must be finite";
        }
    }
    if (params.repeat_penalty <= 0.0f) {
        return "repeat_penalty must be above 0";
    }
    if (params.repeat_last_n < 0 || params.dry_penalty_last_n < 0) {
        return "repeat_last_n and dry_penalty_last_n must not be negative";
    }
    if (params.dynatemp_exponent < 0.0f || params.dry_allowed_length < 1) {
        return "dynatemp_exponent must be at least 0 and dry_allowed_length at least 1";
    }
    return nullptr;
}

const char * wrong_with(const lb_bias * biases, int32_t n_biases) {
    for (int32_t i = 0; i < n_biases; ++i) {
        if (!current.is_token(biases[i].token)) {
            return "biases hold an id that is no token";
        }
        if (!std::isfinite(biases[i].bias) && !(biases[i].bias < 0.0f)) {
            return "a bias must be finite or -infinity";
        }
    }
    return nullptr;
}

bool has_penalties(const lb_sampler_params & params) {
    return params.repeat_last_n > 0 && (params.repeat_penalty != 1.0f || params.frequency_penalty != 0.0f ||
                                        params.presence_penalty != 0.0f);
}

bool has_dry(const lb_sampler_params & params) {
    return params.dry_multiplier > 0.0f && params.dry_penalty_last_n > 0;
}

// A DRY sampler without a past. The last one is kept, to clone.
llama_sampler * make_dry(const lb_sampler_params & params, const std::vector<const char *> & breakers) {
    // The four fields of DRY lie one after the other.
    std::string settings(reinterpret_cast<const char *>(&params.dry_multiplier), 4 * sizeof(float));
    for (const char * breaker : breakers) {
        settings.append(breaker).push_back('\0');
    }
    if (!current.dry || settings != current.dry_settings) {
        std::vector<const char *> texts = breakers;
        current.dry.reset(llama_sampler_init_dry(current.vocab, params.dry_multiplier, params.dry_base,
                                                 params.dry_allowed_length, params.dry_penalty_last_n, texts.data(),
                                                 texts.size()));
        current.dry_settings = settings;
    }
    return llama_sampler_clone(current.dry.get());
}

void add_truncation(llama_sampler * chain, const lb_sampler_params & params) {
    if (params.top_n_sigma > 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_n_sigma(params.top_n_sigma));
    }
    if (params.top_k > 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_k(params.top_k));
    }
    if (params.typical_p < 1.0f) {
        // What top-n-sigma or a bias ruled out has probability 0, whose logarithm would make all of typical NaN.
        llama_sampler_chain_add(chain, llama_sampler_init_min_p(1e-30f, 1));
        llama_sampler_chain_add(chain, llama_sampler_init_typical(params.typical_p, 1));
    }
    if (params.top_p < 1.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_p(params.top_p, 1));
    }
    if (params.min_p > 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_min_p(params.min_p, 1));
    }
    if (params.xtc_probability > 0.0f) {
        llama_sampler_chain_add(
            chain, llama_sampler_init_xtc(params.xtc_probability, params.xtc_threshold, 1, params.seed));
    }
}

void add_temperature(llama_sampler * chain, const lb_sampler_params & params) {
    llama_sampler_chain_add(
        chain, params.dynatemp_range > 0.0f
                   ? llama_sampler_init_temp_ext(params.temperature, params.dynatemp_range, params.dynatemp_exponent)
                   : llama_sampler_init_temp(params.temperature));
}

// The samplers that the parameters ask for, in llama.cpp's usual order; the last one draws.
llama_sampler * make_chain(const lb_sampler_params & params, const lb_bias * biases, int32_t n_biases,
                           const std::vector<const char *> & breakers) {
    llama_sampler_chain_params chain_params = llama_sampler_chain_default_params();
    chain_params.no_perf = true;
    llama_sampler * chain = llama_sampler_chain_init(chain_params);
    if (n_biases > 0) {
        std::vector<llama_logit_bias> copies;
        for (int32_t i = 0; i < n_biases; ++i) {
            copies.push_back({biases[i].token, biases[i].bias});
        }
        llama_sampler_chain_add(chain, llama_sampler_init_logit_bias(current.n_vocab, n_biases, copies.data()));
    }
    if (has_penalties(params)) {
        llama_sampler_chain_add(chain, llama_sampler_init_penalties(current.n_vocab, params.repeat_last_n,
                                                                    params.repeat_penalty, params.frequency_penalty,
                                                                    params.presence_penalty));
    }
    if (has_dry(params)) {
        llama_sampler_chain_add(chain, make_dry(params, breakers));
    }
    if (params.temperature <= 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
    } else if (params.mirostat == 2) {
        add_temperature(chain, params);
        llama_sampler_chain_add(chain, llama_sampler_init_mirostat_v2(params.seed, params.mirostat_tau, params.mirostat_eta));
    } else {
        add_truncation(chain, params);
        add_temperature(chain, params);
        llama_sampler_chain_add(chain, llama_sampler_init_dist(params.seed));
    }
    return chain;
}

// Draws from all the logits but those of some tokens. The token, not accepted; a status if there is none left.
int32_t draw(lb::sequence & one, const float * logits, const int32_t * refused, int32_t n_refused) {
    std::vector<float> changed;
    if (n_refused > 0) {
        changed.assign(logits, logits + current.n_vocab);
        for (int32_t i = 0; i < n_refused; ++i) {
            changed[refused[i]] = -std::numeric_limits<float>::infinity();
        }
        logits = changed.data();
    }
    static std::vector<llama_token_data> row;
    row.resize(current.n_vocab);
    for (llama_token token = 0; token < current.n_vocab; ++token) {
        row[token] = {token, logits[token], 0.0f};
    }
    llama_token_data_array left = {row.data(), row.size(), -1, false};
    llama_sampler_apply(one.sampler.get(), &left);
    llama_token token = LLAMA_TOKEN_NULL;
    if (one.grammar) {
        token = one.grammar->choose(one.sampler.get(), left, logits);
    } else if (left.selected >= 0 && left.data[left.selected].logit > -std::numeric_limits<float>::infinity()) {
        token = left.data[left.selected].id;
    }
    if (token == LLAMA_TOKEN_NULL) {
        return fail(LB_ENGINE_ERROR, "no token is left: the grammar and logit_bias allow none that the model has");
    }
    return token;
}

// The logits to draw from; NULL, with words, if there are none. After NaN the KV cache is empty: attention may read NaN in cells
// of others too, so all go.
const float * logits_to_draw_from(const lb::sequence & one) {
    if (!one.sampler) {
        fail(LB_ENGINE_ERROR, "there is no sampler: call set_sampler() first");
        return nullptr;
    }
    const float * logits = lb::checked_logits(one);
    if (logits == nullptr && one.row != lb::NO_LOGITS) {
        llama_memory_clear(current.memory(), true);
        current.forget_logits();
        fail(LB_ENGINE_ERROR, "llama.cpp computed NaN: the model is damaged, or the KV cache");
    }
    return logits;
}

bool are_tokens(const int32_t * tokens, int32_t n) {
    return n >= 0 && (tokens != nullptr || n == 0) &&
           std::all_of(tokens, tokens + n, [](int32_t token) { return current.is_token(token); });
}

} // namespace

int32_t lb_sampler(int32_t sequence, const lb_sampler_params * params, const int32_t * recent, int32_t n_recent,
                   const lb_bias * biases, int32_t n_biases, const char * breakers, int32_t n_breakers) {
    return lb::with_sequence(sequence, [&](lb::sequence & one) -> int32_t {
        if (params == nullptr || n_biases < 0 || (biases == nullptr && n_biases > 0) || n_breakers < 0 ||
            (breakers == nullptr && n_breakers > 0)) {
            return fail(LB_BAD_ARGUMENT, "params, biases or breakers are missing");
        }
        if (const char * wrong = wrong_with(*params)) {
            return fail(LB_BAD_ARGUMENT, wrong);
        }
        if (const char * wrong = wrong_with(biases, n_biases)) {
            return fail(LB_BAD_ARGUMENT, wrong);
        }
        if (!are_tokens(recent, n_recent)) {
            return fail(LB_BAD_ARGUMENT, "recent is missing, or holds an id that is no token");
        }
        std::vector<const char *> texts;
        for (int32_t i = 0; i < n_breakers; ++i, breakers += std::strlen(breakers) + 1) {
            texts.push_back(breakers);
        }
        one.grammar.reset();
        one.sampler.reset(make_chain(*params, biases, n_biases, texts));
        for (int32_t i = 0; i < n_recent && (has_penalties(*params) || has_dry(*params)); ++i) {
            llama_sampler_accept(one.sampler.get(), recent[i]);
        }
        return LB_OK;
    });
}

int32_t lb_grammar(int32_t sequence, const char * text, const char * root, int32_t controls, const char * said, int32_t n_said) {
    return lb::with_sequence(sequence, [&](lb::sequence & one) -> int32_t {
        if (text == nullptr) {
            one.grammar.reset();
            return 1;
        }
        if (root == nullptr || n_said < 0 || (said == nullptr && n_said > 0)) {
            return fail(LB_BAD_ARGUMENT, "root or said is missing");
        }
        lb::listen();
        std::unique_ptr<lb::constraint> made;
        try {
            made = std::make_unique<lb::constraint>(current.vocab, text, root, controls != 0);
        } catch (const std::invalid_argument & error) {
            return fail(LB_BAD_ARGUMENT, error.what());
        }
        one.grammar.reset();
        if (!made->accept_text(std::string(said, said + n_said))) {
            return 0;
        }
        one.grammar = std::move(made);
        return 1;
    });
}

int32_t lb_step(int32_t sequence, int32_t token) {
    return lb::with_sequence(sequence, [&](lb::sequence & one) -> int32_t {
        if (!one.sampler) {
            return fail(LB_ENGINE_ERROR, "there is no sampler: call set_sampler() first");
        }
        if (token != LLAMA_TOKEN_NULL) {
            if (const int32_t status = lb_decode(sequence, &token, 1); status != LB_OK) {
                return status;
            }
        }
        const float * logits = logits_to_draw_from(one);
        if (logits == nullptr) {
            return LB_ENGINE_ERROR;
        }
        if (!one.grammar) {
            return llama_sampler_sample(one.sampler.get(), current.context.get(), one.row);
        }
        const int32_t drawn = draw(one, logits, nullptr, 0);
        if (drawn >= 0) {
            llama_sampler_accept(one.sampler.get(), drawn);
            one.grammar->accept(drawn);
        }
        return drawn;
    });
}

int32_t lb_draw(int32_t sequence, const int32_t * refused, int32_t n_refused) {
    return lb::with_sequence(sequence, [&](lb::sequence & one) -> int32_t {
        if (!are_tokens(refused, n_refused)) {
            return fail(LB_BAD_ARGUMENT, "refused is missing, or holds an id that is no token");
        }
        const float * logits = logits_to_draw_from(one);
        return logits == nullptr ? LB_ENGINE_ERROR : draw(one, logits, refused, n_refused);
    });
}

int32_t lb_accept(int32_t sequence, const int32_t * tokens, int32_t n_tokens, int32_t by) {
    return lb::with_sequence(sequence, [&](lb::sequence & one) -> int32_t {
        if (!one.sampler) {
            return fail(LB_ENGINE_ERROR, "there is no sampler: call set_sampler() first");
        }
        if (!are_tokens(tokens, n_tokens)) {
            return fail(LB_BAD_ARGUMENT, "tokens are missing, or one of them is no token");
        }
        for (int32_t i = 0; i < n_tokens; ++i) {
            if (one.grammar && by != LB_ACCEPT_SAMPLERS) {
                if (!one.grammar->fits(tokens[i])) {
                    return i;
                }
                one.grammar->accept(tokens[i]);
            }
            if (by != LB_ACCEPT_GRAMMAR) {
                llama_sampler_accept(one.sampler.get(), tokens[i]);
            }
        }
        return n_tokens;
    });
}

int32_t lb_logprobs(int32_t sequence, int32_t token, int32_t n, lb_logprob * out) {
    return lb::with_sequence(sequence, [&](lb::sequence & one) -> int32_t {
        if (!current.is_token(token) || n < 0 || n > current.n_vocab || out == nullptr) {
            return fail(LB_BAD_ARGUMENT, "no such token, or n is not from 0 to the size of the vocabulary");
        }
        const float * logits = lb::checked_logits(one);
        if (logits == nullptr) {
            return LB_ENGINE_ERROR;
        }
        const float top = *std::max_element(logits, logits + current.n_vocab);
        double sum = 0.0;
        for (int32_t i = 0; i < current.n_vocab; ++i) {
            sum += std::exp(logits[i] - top);
        }
        const double total = top + std::log(sum);
        std::vector<llama_token> best(current.n_vocab);
        for (int32_t i = 0; i < current.n_vocab; ++i) {
            best[i] = i;
        }
        std::partial_sort(best.begin(), best.begin() + n, best.end(),
                          [&](llama_token a, llama_token b) { return logits[a] > logits[b]; });
        *out++ = {token, static_cast<float>(logits[token] - total)};
        for (int32_t i = 0; i < n; ++i) {
            *out++ = {best[i], static_cast<float>(logits[best[i]] - total)};
        }
        return n + 1;
    });
}
