// Embeddings, in a context of their own over the same weights: the conversation's KV cache stays as it is.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "state.h"

using lb::current;
using lb::fail;

namespace {

// llama.cpp computes the logits of every token that it pools, which nobody reads: so many bytes of them at once.
constexpr size_t most_logits = 32u << 20;

// The context, and what it was made for.
struct {
    int32_t pooling = -1;
    int32_t flash_attention = 0;
    int32_t capacity = 0;
} made;

// Several sequences, or the same part of each, as llama_batch wants them.
struct batch {
    std::vector<llama_token> tokens;
    std::vector<llama_pos> positions;
    std::vector<llama_seq_id> owners;
    int8_t output;

    explicit batch(bool output) : output(output ? 1 : 0) {}

    void add(llama_seq_id owner, const llama_token * from, int32_t first, int32_t last) {
        for (int32_t i = first; i < last; i++) {
            tokens.push_back(from[i]);
            positions.push_back(i);
            owners.push_back(owner);
        }
    }

    int32_t compute(int32_t at_once) {
        const auto n = static_cast<int32_t>(tokens.size());
        std::vector<llama_seq_id *> sets(tokens.size());
        for (int32_t i = 0; i < n; i++) {
            sets[i] = &owners[i];
        }
        std::vector<int32_t> ones(tokens.size(), 1);
        std::vector<int8_t> outputs(tokens.size(), output);
        for (int32_t start = 0; start < n; start += at_once) {
            if (lb::cancelled()) {
                return fail(LB_CANCELLED, "cancelled");
            }
            llama_batch part = {};
            part.n_tokens = std::min(at_once, n - start);
            part.token = tokens.data() + start;
            part.pos = positions.data() + start;
            part.n_seq_id = ones.data() + start;
            part.seq_id = sets.data() + start;
            part.logits = outputs.data() + start;
            llama_context * context = current.embedder.get();
            const int32_t result =
                llama_model_has_encoder(current.model.get()) ? llama_encode(context, part) : llama_decode(context, part);
            if (result == 2) {
                return fail(LB_CANCELLED, "cancelled");
            }
            if (result != 0) {
                return fail(lb::status_of_failure(),
                            "llama.cpp could not embed, with status " + std::to_string(result) + ": " + lb::logged_errors());
            }
        }
        return LB_OK;
    }
};

int32_t width_of(int32_t pooling) {
    const llama_model * model = current.model.get();
    return pooling == LLAMA_POOLING_TYPE_RANK ? static_cast<int32_t>(llama_model_n_cls_out(model))
                                              : llama_model_n_embd_out(model);
}

// Only the last token is pooled, and it attends to the others through the KV cache: they can go first.
bool goes_in_two(int32_t pooling) {
    return !current.encoder && (pooling == LLAMA_POOLING_TYPE_LAST || pooling == LLAMA_POOLING_TYPE_RANK);
}

int32_t max_sequences() {
    return current.stateful ? 4 : LB_EMBED_SEQUENCES;
}

// A whole number of tokens for each sequence: llama.cpp aborts when it reserves memory for another number.
int32_t whole(int32_t n_tokens) {
    return (n_tokens + LB_EMBED_SEQUENCES - 1) / LB_EMBED_SEQUENCES * LB_EMBED_SEQUENCES;
}

int32_t reserve(const lb_embed_params & params) {
    if (current.embedder && made.pooling == params.pooling && made.flash_attention == params.flash_attention &&
        params.n_tokens <= made.capacity) {
        return LB_OK;
    }
    current.embedder.reset();
    const int32_t capacity = whole(std::max(params.n_tokens, params.capacity));
    const int32_t at_once = goes_in_two(params.pooling) ? std::min(whole(params.n_batch), capacity) : capacity;
    llama_context_params context = llama_context_default_params();
    context.n_ctx = static_cast<uint32_t>(capacity);
    context.n_batch = context.n_ubatch = static_cast<uint32_t>(at_once);
    if (goes_in_two(params.pooling)) {
        const auto with_logits = static_cast<int32_t>(most_logits / sizeof(float) / static_cast<size_t>(current.n_vocab));
        context.n_outputs_max = static_cast<uint32_t>(std::min(at_once, std::max(LB_EMBED_SEQUENCES, with_logits)));
    }
    context.n_seq_max = static_cast<uint32_t>(max_sequences());
    context.n_threads = context.n_threads_batch = llama_n_threads(current.context.get());
    context.pooling_type = static_cast<enum llama_pooling_type>(params.pooling);
    context.flash_attn_type = params.flash_attention != 0 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    context.embeddings = true;
    context.kv_unified = true;
    context.swa_full = false;
    context.no_perf = true;
    context.abort_callback = lb::abort_requested;
    lb::listen();
    current.embedder.reset(llama_init_from_model(current.model.get(), context));
    if (!current.embedder) {
        return fail(lb::status_of_failure(), "no context for " + std::to_string(capacity) + " tokens: " + lb::logged_errors());
    }
    lb::apply_adapters(current.embedder.get());
    if (current.threads) {
        llama_attach_threadpool(current.embedder.get(), current.threads.get(), nullptr);
    }
    made = {params.pooling, params.flash_attention, capacity};
    return LB_OK;
}

const char * wrong_with(const lb_embed_params & params, const int32_t * lengths) {
    if (params.pooling < LLAMA_POOLING_TYPE_MEAN || params.pooling > LLAMA_POOLING_TYPE_RANK) {
        return "pooling must be 1 mean, 2 cls, 3 last or 4 rank";
    }
    if (params.flash_attention != 0 && params.flash_attention != 1) {
        return "flash_attention must be 0 or 1";
    }
    if (params.n_sequences < 1 || params.n_sequences > max_sequences()) {
        return "n_sequences must be at least 1, and at most LB_EMBED_SEQUENCES, or 4 for a recurrent model";
    }
    if (params.n_batch < 1 || params.n_tokens < 1 || params.n_tokens > LB_EMBED_TOKENS || params.capacity < 0 ||
        params.capacity > LB_EMBED_TOKENS) {
        return "n_batch and n_tokens must be at least 1, and capacity 0; at most LB_EMBED_TOKENS";
    }
    int64_t sum = 0;
    for (int32_t i = 0; i < params.n_sequences; i++) {
        if (lengths[i] < 1 || lengths[i] > params.n_tokens) {
            return "each sequence needs at least one token";
        }
        // A position beyond those that an encoder was trained with may be outside its tables.
        if (current.encoder && lengths[i] > llama_model_n_ctx_train(current.model.get())) {
            return "a sequence is longer than the model was trained with";
        }
        sum += lengths[i];
    }
    return sum == params.n_tokens ? nullptr : "the lengths must add up to n_tokens";
}

int32_t embed(const lb_embed_params & params, const int32_t * lengths, const int32_t * tokens, float * out) {
    if (const char * wrong = wrong_with(params, lengths)) {
        return fail(LB_BAD_ARGUMENT, wrong);
    }
    for (int32_t i = 0; i < params.n_tokens; i++) {
        if (!current.is_token(tokens[i])) {
            return fail(LB_BAD_ARGUMENT, "no such token: " + std::to_string(tokens[i]));
        }
    }
    if (const int32_t status = reserve(params); status != LB_OK) {
        return status;
    }
    llama_context * context = current.embedder.get();
    llama_memory_clear(llama_get_memory(context), false);
    lb::listen();
    const size_t logits = sizeof(float) * static_cast<size_t>(current.n_vocab) * static_cast<size_t>(params.n_tokens);
    const bool in_two = goes_in_two(params.pooling) && params.n_tokens > params.n_sequences && logits > most_logits;
    batch heads(false), ends(true);
    const int32_t * from = tokens;
    for (int32_t i = 0; i < params.n_sequences; from += lengths[i++]) {
        const int32_t split = in_two ? lengths[i] - 1 : 0;
        heads.add(i, from, 0, split);
        ends.add(i, from, split, lengths[i]);
    }
    if (in_two) {
        llama_set_embeddings(context, false);
        const int32_t status = heads.compute(static_cast<int32_t>(llama_n_batch(context)));
        llama_set_embeddings(context, true);
        if (status != LB_OK) {
            return status;
        }
    }
    if (const int32_t status = ends.compute(static_cast<int32_t>(llama_n_batch(context))); status != LB_OK) {
        return status;
    }
    const auto width = static_cast<size_t>(width_of(params.pooling));
    uint32_t largest = 0; // magnitude, as a number: that of infinity is 0x7f800000, that of NaN above
    for (int32_t i = 0; i < params.n_sequences; i++) {
        const float * row = llama_get_embeddings_seq(context, i);
        if (row == nullptr) {
            return fail(LB_ENGINE_ERROR, "llama.cpp gave no embedding of a text");
        }
        for (size_t k = 0; k < width; k++) {
            uint32_t bits;
            memcpy(&bits, row + k, sizeof bits);
            largest = std::max(largest, bits & 0x7fffffffu);
        }
        memcpy(out + static_cast<size_t>(i) * width, row, width * sizeof(float));
    }
    if (largest >= 0x7f800000u) {
        current.embedder.reset(); // whatever it holds may be NaN
        return fail(LB_ENGINE_ERROR, "llama.cpp computed NaN or infinity: the model is damaged");
    }
    return LB_OK;
}

} // namespace

int32_t lb_embed_width(int32_t pooling) {
    return lb::with_model([&] { return width_of(pooling); });
}

int32_t lb_embed(const lb_embed_params * params, const int32_t * lengths, const int32_t * tokens, float * out) {
    return lb::with_model([&]() -> int32_t {
        if (params == nullptr || lengths == nullptr || tokens == nullptr || out == nullptr) {
            return fail(LB_BAD_ARGUMENT, "params, lengths, tokens and out must not be null");
        }
        return embed(*params, lengths, tokens, out);
    });
}
