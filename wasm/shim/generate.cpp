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

// What llama_decode takes: tokens of one or more sequences, each with its owner. Used again and again.
class batch {
  public:
    void begin() {
        tokens.clear();
        owners.clear();
        wanted.clear();
    }

    void add(llama_seq_id owner, const int32_t * from, int32_t n, int32_t n_wanted) {
        tokens.insert(tokens.end(), from, from + n);
        owners.insert(owners.end(), static_cast<size_t>(n), owner);
        wanted.insert(wanted.end(), static_cast<size_t>(n), 0);
        std::fill(wanted.end() - n_wanted, wanted.end(), 1);
    }

    // Each token is held against the vocabulary as it is here, where the host cannot change it any more.
    const int32_t * wrong_token() const {
        const auto found = std::find_if(tokens.begin(), tokens.end(), [](int32_t token) { return !current.is_token(token); });
        return found == tokens.end() ? nullptr : &*found;
    }

    int32_t size() const { return static_cast<int32_t>(tokens.size()); }

    int32_t decode() {
        ones.resize(tokens.size(), 1);
        sets.resize(tokens.size());
        for (size_t i = 0; i < tokens.size(); i++) {
            sets[i] = &owners[i];
        }
        llama_batch given = {};
        given.n_tokens = size();
        given.token = tokens.data();
        given.n_seq_id = ones.data();
        given.seq_id = sets.data();
        given.logits = wanted.data();
        return llama_decode(current.context.get(), given);
    }

  private:
    std::vector<llama_token> tokens;
    std::vector<llama_seq_id> owners;
    std::vector<llama_seq_id *> sets;
    std::vector<int32_t> ones;
    std::vector<int8_t> wanted;
} together;

int32_t no_cells() {
    const auto n_ctx = std::to_string(llama_n_ctx(current.context.get()));
    if (current.sequences.size() == 1) {
        return fail(LB_CONTEXT_FULL, "no room left in the KV cache");
    }
    int64_t held = 0;
    for (int32_t number = 0; current.is_sequence(number); number++) {
        held += current.length(number);
    }
    return fail(LB_CACHE_FULL, "no room in the KV cache of " + n_ctx + " cells: its sequences hold " + std::to_string(held));
}

// Fills the batch; a status if something is wrong with what it is to hold. Of each sequence the last tokens are guesses.
int32_t collect(const int32_t * numbers, const int32_t * lengths, const int32_t * tokens, int32_t n, int32_t n_guesses) {
    const auto n_ctx = static_cast<int32_t>(llama_n_ctx(current.context.get()));
    const auto n_batch = static_cast<int32_t>(llama_n_batch(current.context.get()));
    together.begin();
    for (int32_t i = 0; i < n; tokens += lengths[i++]) {
        if (!current.is_sequence(numbers[i]) || std::find(numbers, numbers + i, numbers[i]) != numbers + i) {
            return fail(LB_BAD_ARGUMENT, "each sequence must be there, and come once: " + std::to_string(numbers[i]));
        }
        if (lengths[i] < 1 || lengths[i] > n_batch - together.size()) {
            return fail(LB_BAD_ARGUMENT, "n_tokens must be at least 1, and at most n_batch for all sequences");
        }
        together.add(numbers[i], tokens, lengths[i], n_guesses + 1);
    }
    if (const int32_t * wrong = together.wrong_token()) {
        return fail(LB_BAD_ARGUMENT, "no such token: " + std::to_string(*wrong));
    }
    for (int32_t i = 0; i < n; i++) {
        if (lengths[i] > n_ctx - current.length(numbers[i])) {
            return fail(LB_CONTEXT_FULL, "the context of " + std::to_string(n_ctx) + " tokens is full");
        }
    }
    return LB_OK;
}

int32_t decode(const int32_t * numbers, const int32_t * lengths, const int32_t * tokens, int32_t n, int32_t n_guesses = 0) {
    if (current.encoder) {
        return fail(LB_ENGINE_ERROR, "the model only embeds");
    }
    if (const int32_t status = collect(numbers, lengths, tokens, n, n_guesses); status != LB_OK) {
        return status;
    }
    if (lb::cancelled()) {
        return fail(LB_CANCELLED, "cancelled");
    }
    current.forget_logits();
    lb::listen();
    const int32_t result = together.decode();
    switch (result) {
    case 0:
        for (int32_t i = 0, end = 0; i < n; i++) {
            end += lengths[i];
            lb::sequence & one = current.sequences[static_cast<size_t>(numbers[i])];
            one.row = one.first = end - 1 - n_guesses;
            one.guesses = n_guesses;
        }
        return LB_OK;
    case 1: return no_cells();
    case 2: return fail(LB_CANCELLED, "cancelled");
    default: break;
    }
    return fail(lb::status_of_failure(), "llama_decode returned " + std::to_string(result) + ": " + lb::logged_errors());
}

void clear(int32_t number) {
    if (current.sequences.size() == 1) {
        llama_memory_clear(current.memory(), false);
    } else {
        llama_memory_seq_rm(current.memory(), number, -1, -1);
    }
    current.sequences[static_cast<size_t>(number)].row = lb::NO_LOGITS;
}

} // namespace

namespace lb {

const float * checked_logits(const sequence & one) {
    if (one.row == NO_LOGITS) {
        fail(LB_ENGINE_ERROR, "there are no logits: decode something first");
        return nullptr;
    }
    const float * logits = llama_get_logits_ith(current.context.get(), one.row);
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

int32_t lb_length(int32_t sequence) {
    return lb::with_sequence(sequence, [&](const lb::sequence &) { return current.length(sequence); });
}

int32_t lb_clear(int32_t sequence) {
    return lb::with_sequence(sequence, [&](const lb::sequence &) {
        clear(sequence);
        return static_cast<int32_t>(LB_OK);
    });
}

int32_t lb_truncate(int32_t sequence, int32_t length) {
    return lb::with_sequence(sequence, [&](lb::sequence & one) -> int32_t {
        const int32_t now = current.length(sequence);
        if (length < 0 || length > now) {
            return fail(LB_BAD_ARGUMENT, "length must be from 0 to " + std::to_string(now));
        }
        if (length == 0) {
            clear(sequence);
            return 1;
        }
        if (length < now) {
            // A sliding-window cache says yes even when tokens that the next one must see are gone.
            if (current.stateful || llama_memory_seq_pos_min(current.memory(), sequence) > window_start(length) ||
                !llama_memory_seq_rm(current.memory(), sequence, length, -1)) {
                return 0;
            }
        }
        one.row = lb::NO_LOGITS;
        return 1;
    });
}

int32_t lb_decode(int32_t sequence, const int32_t * tokens, int32_t n_tokens) {
    return lb::with_model([&] {
        return tokens != nullptr ? decode(&sequence, &n_tokens, tokens, 1) : fail(LB_BAD_ARGUMENT, "tokens must not be null");
    });
}

int32_t lb_decode_together(const int32_t * sequences, const int32_t * lengths, const int32_t * tokens, int32_t n) {
    return lb::with_model([&] {
        if (sequences == nullptr || lengths == nullptr || tokens == nullptr || n < 1) {
            return fail(LB_BAD_ARGUMENT, "sequences, lengths and tokens must not be null, and n at least 1");
        }
        return decode(sequences, lengths, tokens, n);
    });
}

int32_t lb_decode_ahead(int32_t sequence, const int32_t * tokens, int32_t n_tokens, int32_t n_guesses) {
    return lb::with_model([&] {
        if (tokens == nullptr || n_guesses < 0 || n_guesses >= n_tokens) {
            return fail(LB_BAD_ARGUMENT, "tokens must not be null, and n_guesses from 0 to fewer than n_tokens");
        }
        if (n_guesses > LB_GUESSES) {
            return fail(LB_BAD_ARGUMENT, "n_guesses must be at most " + std::to_string(LB_GUESSES));
        }
        if (current.stateful) {
            return fail(LB_BAD_ARGUMENT, "this memory cannot take guesses back");
        }
        return decode(&sequence, &n_tokens, tokens, 1, n_guesses);
    });
}

int32_t lb_look(int32_t sequence, int32_t n_guesses) {
    return lb::with_sequence(sequence, [&](lb::sequence & one) -> int32_t {
        if (one.row == lb::NO_LOGITS) {
            return fail(LB_ENGINE_ERROR, "there are no logits: decode something first");
        }
        if (n_guesses < 0 || n_guesses > one.guesses) {
            return fail(LB_BAD_ARGUMENT, "n_guesses must be from 0 to " + std::to_string(one.guesses));
        }
        one.row = one.first + n_guesses;
        return LB_OK;
    });
}

int32_t lb_share(int32_t source, int32_t target, int32_t length) {
    return lb::with_sequence(source, [&](const lb::sequence &) -> int32_t {
        if (!current.is_sequence(target) || length < 0) {
            return fail(LB_BAD_ARGUMENT, "no such sequence, or length is negative");
        }
        const int32_t held = current.length(source);
        const bool dense = !current.stateful && llama_model_n_swa(current.model.get()) <= 0;
        if (source == target || length > held || (length < held && !dense)) { // else only whole: no memory could take the rest back
            return 0;
        }
        clear(target);
        if (length > 0) {
            llama_memory_seq_cp(current.memory(), source, target, 0, length);
        }
        return 1;
    });
}

const float * lb_logits(int32_t sequence) {
    const float * logits = nullptr;
    lb::with_sequence(sequence, [&](const lb::sequence & one) {
        logits = lb::checked_logits(one);
        return static_cast<int32_t>(LB_OK);
    });
    return logits;
}
