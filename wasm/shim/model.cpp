// Loading a model, and what can be asked about it and its vocabulary.
#include <algorithm>
#include <climits>
#include <vector>

#include "state.h"
#include "weights.h"

using lb::current;
using lb::fail;

namespace {

bool is_kv_type(int32_t type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_Q8_0 || type == GGML_TYPE_Q4_0;
}

const char * wrong_with(const lb_load_params & params) {
    if (params.n_ctx < 0) {
        return "n_ctx must not be negative";
    }
    if (params.n_batch < 1 || params.n_ubatch < 1 || params.n_ubatch > params.n_batch) {
        return "n_batch and n_ubatch must be at least 1, and n_ubatch at most n_batch";
    }
    if (params.n_threads < 1 || params.n_threads > lb_threads_proven) {
        return "n_threads must be at least 1, and no more than lb_probe_threads found to work";
    }
    if (!is_kv_type(params.type_k) || !is_kv_type(params.type_v)) {
        return "type_k and type_v must be f32, f16, q8_0 or q4_0";
    }
    if (params.flash_attention != 0 && params.flash_attention != 1) {
        return "flash_attention must be 0 or 1";
    }
    if (params.n_parallel < 1 || params.n_parallel > LB_SEQUENCES) {
        return "n_parallel must be at least 1, and at most LB_SEQUENCES";
    }
    if (ggml_is_quantized(static_cast<ggml_type>(params.type_v)) && params.flash_attention == 0) {
        return "a quantised V cache needs flash attention";
    }
    return nullptr;
}

// llama.cpp counts bytes in size_t, which wraps at 4 GiB here: a KV cache too large for the address space
// would come out small. Dense caches only; the sizes of the others are not known from outside.
double kv_bytes(const llama_model * model, const lb_load_params & params, int32_t n_ctx) {
    const int32_t n_head = llama_model_n_head(model);
    if (n_head <= 0 || llama_model_n_swa(model) > 0 || llama_model_is_recurrent(model) || llama_model_is_hybrid(model)) {
        return 0;
    }
    const auto row = [&](int32_t type) {
        const auto t = static_cast<ggml_type>(type);
        return static_cast<double>(ggml_type_size(t)) / static_cast<double>(ggml_blck_size(t));
    };
    const double width = static_cast<double>(llama_model_n_embd(model)) / n_head * llama_model_n_head_kv(model);
    return width * n_ctx * llama_model_n_layer(model) * (row(params.type_k) + row(params.type_v));
}

// A failure of llama.cpp itself: its log holds the reason.
int32_t refused(const char * what) {
    const lb_status status = lb::status_of_failure();
    const std::string reason = lb::logged_errors();
    current.reset();
    return fail(status, reason.empty() ? what : what + (": " + reason));
}

int32_t no_text(const std::string & kind) {
    char architecture[64] = "";
    llama_model_meta_val_str(current.model.get(), "general.architecture", architecture, sizeof architecture);
    current.reset();
    return fail(LB_ENGINE_ERROR, kind + " (" + architecture + "), which has no KV cache that grows token by token: it cannot "
                                        "generate text here. Load a decoder model");
}

// Whether each token attends only to those before it.
bool is_causal(const llama_model * model) {
    char value[64] = "";
    if (llama_model_meta_val_str(model, "general.architecture", value, sizeof value) > 0 &&
        std::string(value) == "gemma-embedding") {
        return false;
    }
    const std::string key = std::string(value) + ".attention.causal";
    return llama_model_meta_val_str(model, key.c_str(), value, sizeof value) < 0 || std::string(value) != "false";
}

int32_t load(const char * path, const lb_load_params & params) {
    current.reset();
    lb::listen();

    llama_model_params model_params = llama_model_default_params();
    // mmap is emulated on WASI: it would read the file into memory, and then once more into the tensors.
    model_params.load_mode = LLAMA_LOAD_MODE_NONE;
    model_params.lazy_mode = LLAMA_LAZY_MODE_OFF;
    model_params.n_gpu_layers = 0;
    lb::forget_weights();
    current.model.reset(llama_model_load_from_file(path, model_params));
    if (!current.model) {
        return refused("the model could not be loaded");
    }
    if (const std::string name = lb::tensor_not_finite(); !name.empty()) {
        return fail(LB_NOT_FINITE, name);
    }
    lb::pack_weights();
    llama_model * model = current.model.get();
    if (llama_model_has_encoder(model) && llama_model_has_decoder(model)) {
        return no_text("an encoder-decoder model");
    }
    if (llama_model_is_diffusion(model)) {
        return no_text("a diffusion model");
    }

    const int32_t n_ctx = params.n_ctx > 0 ? params.n_ctx : llama_model_n_ctx_train(model);
    current.encoder = llama_model_has_encoder(model) || !is_causal(model);
    const double needed = current.encoder ? 0 : kv_bytes(model, params, n_ctx);
    if (needed >= 4294967296.0) {
        current.reset();
        return fail(LB_OUT_OF_MEMORY, "failed to allocate the KV cache: " + std::to_string(needed / 1048576) +
                                          " MiB for n_ctx=" + std::to_string(n_ctx));
    }

    llama_context_params context_params = llama_context_default_params();
    context_params.n_ctx = static_cast<uint32_t>(n_ctx);
    context_params.n_batch = static_cast<uint32_t>(params.n_batch);
    context_params.n_ubatch = static_cast<uint32_t>(params.n_ubatch);
    context_params.n_seq_max = static_cast<uint32_t>(params.n_parallel);
    context_params.kv_unified = true; // all sequences share the cells
    // Logits are wanted for a sequence's last token only. The default reserves them for a whole micro-batch: 300 MB
    // for a vocabulary of 150,000 tokens.
    // For a row of logits of each sequence, or of one after each of its guesses.
    context_params.n_outputs_max = std::max(context_params.n_seq_max, std::min<uint32_t>(context_params.n_batch, LB_GUESSES + 1));
    context_params.n_threads = params.n_threads;
    context_params.n_threads_batch = params.n_threads;
    context_params.type_k = static_cast<ggml_type>(params.type_k);
    context_params.type_v = static_cast<ggml_type>(params.type_v);
    context_params.flash_attn_type =
        params.flash_attention != 0 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    context_params.abort_callback = lb::abort_requested;
    // Sliding windows hold what they need: memory is scarce here, and a rewind beyond the window may be refused.
    context_params.swa_full = false;
    context_params.no_perf = true;
    if (current.encoder) {
        context_params.n_batch = context_params.n_ubatch = context_params.n_seq_max = context_params.n_outputs_max = 1; // embed.cpp makes the one that computes
    }
    current.context.reset(llama_init_from_model(model, context_params));
    if (!current.context) {
        return refused("the context could not be made");
    }
    current.encoder = current.encoder || current.memory() == nullptr;
    if (params.n_threads > 1) {
        // One pool for good. Without it ggml would make one for each graph, that is for each token.
        ggml_threadpool_params pool = ggml_threadpool_params_default(params.n_threads);
        current.threads.reset(ggml_threadpool_new(&pool));
        llama_attach_threadpool(current.context.get(), current.threads.get(), nullptr);
    }
    current.vocab = llama_model_get_vocab(model);
    current.n_vocab = llama_vocab_n_tokens(current.vocab);
    current.stateful = llama_model_is_recurrent(model) || llama_model_is_hybrid(model);
    current.sequences.resize(context_params.n_seq_max);
    lb::attend_to(context_params.n_seq_max > 1, llama_model_n_swa(model) > 0);
    return LB_OK;
}

} // namespace

int32_t lb_load(const char * path, const lb_load_params * params) {
    const int32_t status = lb::guarded([&] {
        if (path == nullptr || params == nullptr) {
            return fail(LB_BAD_ARGUMENT, "path and params must not be null");
        }
        if (const char * wrong = wrong_with(*params)) {
            return fail(LB_BAD_ARGUMENT, wrong);
        }
        return load(path, *params);
    });
    if (status != LB_OK && status != LB_BAD_ARGUMENT) {
        current.reset(); // after an exception, too, nothing is half loaded
    }
    return status;
}

void lb_unload(void) {
    current.reset();
}

int32_t lb_info(int32_t key) {
    return lb::with_model([&]() -> int32_t {
        const llama_model * model = current.model.get();
        switch (key) {
        case LB_INFO_N_CTX: return static_cast<int32_t>(llama_n_ctx(current.context.get()));
        case LB_INFO_N_CTX_TRAIN: return llama_model_n_ctx_train(model);
        case LB_INFO_N_BATCH: return static_cast<int32_t>(llama_n_batch(current.context.get()));
        case LB_INFO_N_VOCAB: return current.n_vocab;
        case LB_INFO_N_EMBD: return llama_model_n_embd(model);
        case LB_INFO_N_LAYER: return llama_model_n_layer(model);
        case LB_INFO_BOS: return llama_vocab_bos(current.vocab);
        case LB_INFO_EOS: return llama_vocab_eos(current.vocab);
        case LB_INFO_EOT: return llama_vocab_eot(current.vocab);
        case LB_INFO_ADD_BOS: return llama_vocab_get_add_bos(current.vocab) ? 1 : 0;
        case LB_INFO_N_SWA: return llama_model_n_swa(model);
        case LB_INFO_IS_RECURRENT: return llama_model_is_recurrent(model) ? 1 : 0;
        case LB_INFO_IS_HYBRID: return llama_model_is_hybrid(model) ? 1 : 0;
        case LB_INFO_N_THREADS: return llama_n_threads(current.context.get());
        case LB_INFO_SEP: return llama_vocab_sep(current.vocab);
        case LB_INFO_ADD_EOS: return llama_vocab_get_add_eos(current.vocab) ? 1 : 0;
        case LB_INFO_ADD_SEP: return llama_vocab_get_add_sep(current.vocab) ? 1 : 0;
        case LB_INFO_IS_ENCODER: return current.encoder ? 1 : 0;
        default: return fail(LB_BAD_ARGUMENT, "no such key: " + std::to_string(key));
        }
    });
}

int32_t lb_eog_tokens(int32_t * out, int32_t capacity) {
    return lb::with_model([&]() -> int32_t {
        if (capacity < 0 || (out == nullptr && capacity > 0)) {
            return fail(LB_BAD_ARGUMENT, "out and capacity do not fit together");
        }
        std::vector<int32_t> tokens;
        for (int32_t token = 0; token < current.n_vocab; ++token) {
            if (llama_vocab_is_eog(current.vocab, token)) {
                tokens.push_back(token);
            }
        }
        const auto n = static_cast<int32_t>(tokens.size());
        if (n <= capacity) {
            std::copy(tokens.begin(), tokens.end(), out);
        }
        return n;
    });
}

int32_t lb_tokenize(const char * text, int32_t n_bytes, int32_t add_special, int32_t parse_special, int32_t * out,
                    int32_t capacity) {
    return lb::with_model([&]() -> int32_t {
        if (n_bytes < 0 || capacity < 0 || (text == nullptr && n_bytes > 0) || (out == nullptr && capacity > 0)) {
            return fail(LB_BAD_ARGUMENT, "text, out and their sizes do not fit together");
        }
        const int32_t n = llama_tokenize(current.vocab, text == nullptr ? "" : text, n_bytes, out, capacity,
                                         add_special != 0, parse_special != 0);
        if (n == INT32_MIN) {
            return fail(LB_BAD_ARGUMENT, "the text is too long to tokenize");
        }
        return n < 0 ? -n : n;
    });
}

int32_t lb_token_bytes(int32_t token, int32_t special, char * out, int32_t capacity) {
    return lb::with_model([&]() -> int32_t {
        if (!current.is_token(token)) {
            return fail(LB_BAD_ARGUMENT, "no such token: " + std::to_string(token));
        }
        if (capacity < 0 || (out == nullptr && capacity > 0)) {
            return fail(LB_BAD_ARGUMENT, "out and capacity do not fit together");
        }
        const int32_t n = llama_token_to_piece(current.vocab, token, out, capacity, 0, special != 0);
        return n < 0 ? -n : n;
    });
}
