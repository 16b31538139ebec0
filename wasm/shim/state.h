// What the shim's files share: the one model, and how a failure becomes a status and words.
#pragma once

#include <exception>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "constraint.h"
#include "ggml-cpu.h"
#include "lb.h"
#include "llama.h"

extern "C" int lb_threads_proven; // ../runtime/threads.c
extern "C" int lb_refused;        // ../runtime/malloc.c

namespace lb {

struct free_model {
    void operator()(llama_model * p) const { llama_model_free(p); }
};
struct free_adapter {
    void operator()(llama_adapter_lora * p) const { llama_adapter_lora_free(p); }
};
struct free_context {
    void operator()(llama_context * p) const { llama_free(p); }
};
struct free_sampler {
    void operator()(llama_sampler * p) const { llama_sampler_free(p); }
};

struct free_threads {
    void operator()(ggml_threadpool * p) const { ggml_threadpool_free(p); } // ends and joins them
};

constexpr int32_t NO_LOGITS = -1;

// One sequence of tokens in the KV cache, and what draws the next one.
struct sequence {
    std::unique_ptr<llama_sampler, free_sampler> sampler;
    std::unique_ptr<constraint> grammar; // null: none
    int32_t row = NO_LOGITS;             // where in the last batch the token is whose logits there are
    int32_t first = 0;                   // the same of the token before the guesses
    int32_t guesses = 0;                 // how many of them the last batch had
};

struct state {
    std::unique_ptr<llama_model, free_model> model;
    // After model: destroyed before it, which would free them, too.
    std::map<int32_t, std::unique_ptr<llama_adapter_lora, free_adapter>> adapters;
    std::vector<llama_adapter_lora *> adapters_in_force;
    std::vector<float> adapter_scales; // of those
    int32_t next_adapter = 1;
    std::unique_ptr<ggml_threadpool, free_threads> threads; // null: the one that calls
    std::unique_ptr<llama_context, free_context> context; // after model: destroyed before it
    std::unique_ptr<llama_context, free_context> embedder; // made when something is embedded
    std::vector<sequence> sequences;                   // by their number
    std::unique_ptr<token_tree> tokens;                // null: not needed yet
    std::unique_ptr<llama_sampler, free_sampler> dry;  // to clone: making one spells the whole vocabulary
    std::string dry_settings;                          // what that one was made with
    const llama_vocab * vocab = nullptr;
    int32_t n_vocab = 0;
    bool stateful = false;   // recurrent or hybrid: a decode must not be aborted half-way
    bool encoder = false;    // it only embeds; `context` holds next to nothing

    // Drops everything in the order that ownership asks for.
    void reset() {
        sequences.clear();
        dry.reset();
        tokens.reset();
        embedder.reset();
        context.reset();
        threads.reset();
        adapters_in_force.clear();
        adapter_scales.clear();
        adapters.clear();
        model.reset();
        vocab = nullptr;
        n_vocab = 0;
        stateful = encoder = false;
    }

    llama_memory_t memory() const { return llama_get_memory(context.get()); }
    int32_t length(int32_t number) const { return llama_memory_seq_pos_max(memory(), number) + 1; }
    bool is_sequence(int32_t number) const { return number >= 0 && number < static_cast<int32_t>(sequences.size()); }
    void forget_logits() {
        for (sequence & one : sequences) {
            one.row = NO_LOGITS;
            one.guesses = 0;
        }
    }
    bool is_token(int32_t token) const { return token >= 0 && token < n_vocab; }
};

extern state current;
extern volatile int32_t cancel_flag;

inline bool cancelled() {
    return cancel_flag != 0 || lb_host_stop() != 0;
}

// The logits of a sequence's last token, if there are any and all are numbers; else NULL, with words. llama.cpp would draw some
// token of NaN all the same.
const float * checked_logits(const sequence & one);
// llama.cpp's abort callback.
inline bool abort_requested(void *) {
    // An aborted recurrent state cannot be taken back: there the host cancels between calls.
    return !current.stateful && cancelled();
}

// The name of a tensor of the model that holds NaN or infinity; empty if none does. Before weights are packed.
std::string tensor_not_finite();

// Puts the adapters in force in a context.
void apply_adapters(llama_context * context);

// Keeps the words for lb_last_error and returns `status`.
int32_t fail(lb_status status, const std::string & message);

// The status of a failure that llama.cpp has no code for: out of memory if malloc refused something since listen().
lb_status status_of_failure();

// Before a call of llama.cpp that may fail: forgets what was logged and refused.
void listen();

// Errors that llama.cpp logged since listen().
const std::string & logged_errors();

// Runs `body` so that no C++ exception leaves the module.
template <typename Body> int32_t guarded(Body && body) noexcept {
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return fail(LB_OUT_OF_MEMORY, "out of memory");
    } catch (const std::exception & error) {
        return fail(status_of_failure(), error.what());
    } catch (...) {
        return fail(LB_ENGINE_ERROR, "unknown C++ exception");
    }
}

// The same, with a model loaded.
template <typename Body> int32_t with_model(Body && body) noexcept {
    return guarded([&] { return current.context ? body() : fail(LB_NO_MODEL, "no model is loaded"); });
}

// The same, with one of its sequences, given to `body`.
template <typename Body> int32_t with_sequence(int32_t number, Body && body) noexcept {
    return with_model([&] {
        return current.is_sequence(number) ? body(current.sequences[static_cast<size_t>(number)])
                                           : fail(LB_BAD_ARGUMENT, "no such sequence: " + std::to_string(number));
    });
}

} // namespace lb
