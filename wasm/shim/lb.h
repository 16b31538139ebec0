// The C ABI of llama.wasm: coarse calls over one model and the sequences in its KV cache.
//
// All integers are 32 bits, little-endian; pointers are offsets into the module's linear memory. The host
// gets memory with lb_alloc, or reads what a call returns before its next call. The guest trusts nothing:
// a wrong argument gives a status, never a trap, because llama.cpp's own answer to one is to abort.
//
// The module is a reactor: the host calls `_initialize` once, then any of these, one thread at a time. Its own threads
// are further instances over the same memory, see LB_IMPORT(spawn).
#pragma once

#include <stdint.h>

#define LB_ABI_VERSION 9
#define LB_SEQUENCES 64 // in the KV cache
#define LB_GUESSES 15 // in one lb_decode_ahead
#define LB_ADAPTERS 128 // loaded at once
#define LB_EMBED_SEQUENCES 64
#define LB_EMBED_TOKENS (1 << 20)

#ifdef __wasm__
#define LB_EXPORT(name) extern "C" __attribute__((export_name(#name)))
#define LB_IMPORT(name) extern "C" __attribute__((import_module("lb_host"), import_name(#name)))
#else
#define LB_EXPORT(name) extern "C"
#define LB_IMPORT(name) extern "C"
#endif

// Negative results. The words to go with them: lb_last_error().
enum lb_status : int32_t {
    LB_OK = 0,
    LB_BAD_ARGUMENT = -1,
    LB_NO_MODEL = -2,
    LB_CONTEXT_FULL = -3,
    LB_CANCELLED = -4,
    LB_OUT_OF_MEMORY = -5,
    LB_ENGINE_ERROR = -6,
    LB_NOT_FINITE = -7, // a tensor of the model holds NaN or infinity; its name is all that lb_last_error() says
    LB_CACHE_FULL = -8, // other sequences hold the cells
};

struct lb_load_params {
    int32_t n_ctx;           // tokens the context holds; 0: as the model was trained
    int32_t n_batch;         // most tokens in one lb_decode
    int32_t n_ubatch;        // most tokens computed at once; at most n_batch
    int32_t n_threads;       // compute threads
    int32_t type_k;          // storage of the K cache, an enum ggml_type: 0 f32, 1 f16, 2 q4_0, 8 q8_0
    int32_t type_v;          // the same for V; a quantised one needs flash_attention
    int32_t flash_attention; // 0 or 1
    int32_t n_parallel;      // sequences that share the context; at most LB_SEQUENCES
};

struct lb_sampler_params {
    uint32_t seed;
    float temperature;       // <= 0: greedy
    int32_t top_k;           // <= 0: off
    float top_p;             // 1: off
    float min_p;             // 0: off
    int32_t repeat_last_n;   // tokens the penalties see; 0: off
    float repeat_penalty;    // 1: off
    float frequency_penalty; // 0: off
    float presence_penalty;  // 0: off
    float typical_p;         // 1: off
    float top_n_sigma;       // 0: off
    float xtc_probability;   // 0: off
    float xtc_threshold;
    int32_t mirostat;        // 2: Mirostat 2, in place of everything from top_n_sigma to xtc; 0: off
    float mirostat_tau;
    float mirostat_eta;
    float dynatemp_range;    // 0: off
    float dynatemp_exponent;
    float dry_multiplier;    // 0: off
    float dry_base;
    int32_t dry_allowed_length;
    int32_t dry_penalty_last_n; // tokens DRY sees; 0: off
};

struct lb_bias {
    int32_t token;
    float bias; // finite or -infinity, which bans the token
};

enum lb_accept_by : int32_t {
    LB_ACCEPT_ALL = 0,
    LB_ACCEPT_SAMPLERS = 1, // but not by the grammar
    LB_ACCEPT_GRAMMAR = 2,  // only
};

// What lb_info answers; token ids are -1 where the model has none.
enum lb_info_key : int32_t {
    LB_INFO_N_CTX = 0,
    LB_INFO_N_CTX_TRAIN = 1,
    LB_INFO_N_BATCH = 2,
    LB_INFO_N_VOCAB = 3,
    LB_INFO_N_EMBD = 4,
    LB_INFO_N_LAYER = 5,
    LB_INFO_BOS = 6,
    LB_INFO_EOS = 7,
    LB_INFO_EOT = 8,
    LB_INFO_ADD_BOS = 9,
    LB_INFO_N_SWA = 10,
    LB_INFO_IS_RECURRENT = 11,
    LB_INFO_IS_HYBRID = 12,
    LB_INFO_N_THREADS = 13,
    LB_INFO_SEP = 20,
    LB_INFO_ADD_EOS = 21,
    LB_INFO_ADD_SEP = 22,
    LB_INFO_IS_ENCODER = 23, // 1: it only embeds
};

struct lb_embed_params {
    int32_t pooling;     // 1 mean, 2 cls, 3 last, 4 rank
    int32_t flash_attention; // 0 or 1
    int32_t n_sequences; // at most LB_EMBED_SEQUENCES, 4 for recurrent models
    int32_t n_tokens;    // of all sequences
    int32_t n_batch;     // most tokens computed at once, where a sequence can be computed in pieces
    int32_t capacity;    // tokens to have room for, so that the next call needs no more; at least n_tokens are
};

// Single operations, for tests of the kernels: see lb_check.
enum lb_check_op : int32_t {
    LB_CHECK_PRODUCT = 0,   // weights [rows][k], activations [n][k]; sizes: k, rows, n
    LB_CHECK_EXPERTS = 1,   // weights [experts][rows][k], activations [tokens][used][k], ids [tokens][used]; sizes: k, rows,
                            // experts, used, tokens
    LB_CHECK_ROWS = 2,      // weights [rows][k], ids [n]; sizes: k, rows, n
    LB_CHECK_ATTENTION = 3, // q, K, V, mask and, if there are any, sinks; sizes: head, tokens, heads, K and V heads, keys,
                            // sinks or not; factors: scale, ALiBi, soft cap; `type` is that of K and V
    LB_CHECK_SILU = 4,      // x [rows][n]; sizes: n, rows
    LB_CHECK_SWIGLU = 5,    // x, gate
    LB_CHECK_SOFTMAX = 6,   // x
    LB_CHECK_MALLOC = 7,    // how many blocks each thread allocates; the result is how many were overwritten
};

struct lb_check_params {
    int32_t op;
    int32_t type;   // of the weights, an enum ggml_type
    int32_t packed; // 1: weights as llama.cpp would pack them; 0: as they are in a file
    int32_t repeat; // how often to compute it: for timing
    int32_t threads;
    int32_t sizes[6];
    float factors[3];
};

// --- the module
LB_EXPORT(lb_abi_version) int32_t lb_abi_version(void);
LB_EXPORT(lb_alloc) void * lb_alloc(uint32_t n_bytes); // NULL if there is no room
LB_EXPORT(lb_free) void lb_free(void * p);
LB_EXPORT(lb_last_error) const char * lb_last_error(void); // of the last call that failed; UTF-8, never NULL
// Where a host finds, also after a trap, whether malloc had no room for something in the last call that might fail for it.
LB_EXPORT(lb_refused_flag) int32_t * lb_refused_flag(void);
LB_EXPORT(lb_set_log_level) void lb_set_log_level(int32_t level); // 1 debug, 2 info, 3 warning, 4 error, 5 nothing
// How kernels multiply bytes, from now on: 0 sums of pairs, 1 sums of fours. The results are the same bits. Any other number changes
// nothing. What is in force.
LB_EXPORT(lb_byte_sums) int32_t lb_byte_sums(int32_t form);

// --- the model
LB_EXPORT(lb_load) int32_t lb_load(const char * path, const lb_load_params * params); // replaces a loaded one
LB_EXPORT(lb_unload) void lb_unload(void);
LB_EXPORT(lb_info) int32_t lb_info(int32_t key); // -1 also for a key that does not exist

// --- its vocabulary. These three return how many items there are; if that is more than `capacity`, nothing
// was written and the host asks again with more room.
LB_EXPORT(lb_eog_tokens) int32_t lb_eog_tokens(int32_t * out, int32_t capacity);
LB_EXPORT(lb_tokenize)
int32_t lb_tokenize(const char * text, int32_t n_bytes, int32_t add_special, int32_t parse_special, int32_t * out,
                    int32_t capacity);
LB_EXPORT(lb_token_bytes) int32_t lb_token_bytes(int32_t token, int32_t special, char * out, int32_t capacity);

// --- its KV cache. `sequence` is a number from 0 to n_parallel - 1. What one call does to its sequence changes no other, but
// there are no logits of any before the last tokens that were appended.
LB_EXPORT(lb_length) int32_t lb_length(int32_t sequence); // last position + 1
LB_EXPORT(lb_clear) int32_t lb_clear(int32_t sequence);
LB_EXPORT(lb_truncate) int32_t lb_truncate(int32_t sequence, int32_t length); // 1 done; 0 this memory cannot, nothing changed
// Append up to n_batch tokens; the logits of the last are then ready. After any failure ask lb_length what
// was kept; after LB_CONTEXT_FULL and LB_CACHE_FULL that is what was there before.
LB_EXPORT(lb_decode) int32_t lb_decode(int32_t sequence, const int32_t * tokens, int32_t n_tokens);
// The same for `n` sequences at once, each given once; n_batch is for all tokens. `tokens` has those of one sequence after those
// of the other, `lengths` how many each gets.
LB_EXPORT(lb_decode_together)
int32_t lb_decode_together(const int32_t * sequences, const int32_t * lengths, const int32_t * tokens, int32_t n);
// Makes the first `length` tokens of one sequence all of another's, in the same cells. 1 done; 0 this memory cannot, or there are
// As lb_decode; the last `n_guesses` of the tokens are guesses of what follows the others. lb_look gives the logits after each: first
// there are those after the last token that is no guess. The host truncates guesses that did not come.
LB_EXPORT(lb_decode_ahead) int32_t lb_decode_ahead(int32_t sequence, const int32_t * tokens, int32_t n_tokens, int32_t n_guesses);
LB_EXPORT(lb_look) int32_t lb_look(int32_t sequence, int32_t n_guesses); // from now on, those after so many of the guesses
// not so many, and nothing changed.
LB_EXPORT(lb_share) int32_t lb_share(int32_t source, int32_t target, int32_t length);
LB_EXPORT(lb_logits) const float * lb_logits(int32_t sequence); // n_vocab values; NULL, with words, if there are none or one is NaN

// --- sampling: each sequence has a sampler and a grammar of its own
// `breakers`: the DRY sequence breakers, each ended by a NUL. There is no grammar afterwards.
LB_EXPORT(lb_sampler)
int32_t lb_sampler(int32_t sequence, const lb_sampler_params * params, const int32_t * recent, int32_t n_recent,
                   const lb_bias * biases, int32_t n_biases, const char * breakers, int32_t n_breakers);
// From now on only what fits this GBNF grammar is drawn; NULL: anything. `controls`, 0 or 1: a control token stands for its
// spelling. `said`, of `n_said` bytes, was said already: 0 if that does not fit, and then there is no grammar; else 1. A grammar
// that llama.cpp refuses is a bad argument and changes nothing.
LB_EXPORT(lb_grammar)
int32_t lb_grammar(int32_t sequence, const char * text, const char * root, int32_t controls, const char * said, int32_t n_said);
// Append `token` (-1: nothing), then draw and accept the next token and return it. Where a logit is NaN, or without a sampler
// or logits, LB_ENGINE_ERROR; after NaN the KV cache is empty, that of all sequences.
LB_EXPORT(lb_step) int32_t lb_step(int32_t sequence, int32_t token);
// Draw a token that is none of these, and do not accept it.
LB_EXPORT(lb_draw) int32_t lb_draw(int32_t sequence, const int32_t * refused, int32_t n_refused);
// Accept tokens; how many fit the grammar. No more are accepted.
LB_EXPORT(lb_accept) int32_t lb_accept(int32_t sequence, const int32_t * tokens, int32_t n_tokens, int32_t by);
// The log-probability of `token` in the model's own distribution, then the `n` best tokens with theirs, best first: n + 1
// pairs in `out`. How many tokens there are.
struct lb_logprob {
    int32_t token;
    float logprob;
};
LB_EXPORT(lb_logprobs) int32_t lb_logprobs(int32_t sequence, int32_t token, int32_t n, lb_logprob * out);

// --- embeddings: the KV cache and the logits stay as they are
LB_EXPORT(lb_embed_width) int32_t lb_embed_width(int32_t pooling); // how many floats a row has
// A row for each sequence, into `out`. `tokens` has the sequences one after the other, `lengths` how long each is.
LB_EXPORT(lb_embed)
int32_t lb_embed(const lb_embed_params * params, const int32_t * lengths, const int32_t * tokens, float * out);

// --- LoRA adapters of the loaded model
// Loads one; it is not in force yet. Its number.
LB_EXPORT(lb_adapter_load) int32_t lb_adapter_load(const char * path);
LB_EXPORT(lb_adapter_free) int32_t lb_adapter_free(int32_t number); // of one that is not in force
// These are in force from now on, in place of the others, for all sequences. The KV cache stays as it is: lb_clear each sequence,
// it was made with the others. There are no logits afterwards.
LB_EXPORT(lb_adapters) int32_t lb_adapters(const int32_t * numbers, const float * scales, int32_t n);

// --- one operation; 1: on packed weights, 0: on weights as they are. Sizes are trusted: only for tests.
LB_EXPORT(lb_check) int32_t lb_check(const lb_check_params * params, const void * const * inputs, float * out);

// --- cancelling: where the host writes 1, at any time and from any thread, to end lb_decode and lb_step with
// LB_CANCELLED; the host writes 0 before it starts work.
LB_EXPORT(lb_cancel_flag) volatile int32_t * lb_cancel_flag(void);
// Two imports are not WASI's. This one is asked between the nodes of a graph, not 0 means the same. For a host that cannot
// reach this memory while the guest runs, as a page cannot.
LB_IMPORT(stop) int32_t lb_host_stop(void);

// --- threads: in ../runtime/threads.c, which is C, with these signatures
// The other import: on a thread of its own, the host makes another instance over the same memory and calls its
// lb_thread_start with this argument, not `_initialize`. 0, or negative if it has no thread to give.
//     import  int32_t lb_host.spawn(void * thread);
//     export  void lb_thread_start(void * thread);
// 1 if `n` threads do run at once over one memory: so many lb_load then takes. If not within that time: 0, and this
// guest is of no more use.
//     export  int32_t lb_probe_threads(int32_t n, int32_t milliseconds);
// After a trap in any instance: every thread traps at its next wait. Callable on an instance that trapped.
//     export  int32_t lb_kill(void);
