// ggml's own kernel converts K and V a value at a time and keeps its sums at half precision, for each head anew. Here a
// tile of K and V is converted once for all the queries that look at it: heads that share a K and V head, and
// neighbouring tokens. Sums are single precision throughout.
#include "attention.h"

#include <math.h>
#include <string.h>

#include <algorithm>

#include "ggml-impl.h"
#include "simd.h"
#include "weights.h"

namespace lb {

namespace {

enum {
    ROWS = 32, // queries of a tile at most
    KEYS = 32, // positions of a tile
    SPREAD = 4, // places that one value takes where it fills a vector
    FEW_KEYS = 4,
};

bool several_sequences = false, sliding_window = false; // of the loaded model

// to[m / 4][k][m % 4] = from[m][k], each of them in a whole vector, as multiply_into() wants its left side: its inner
// loop multiplies and adds on all units, and would wait for the one that spreads values.
void spread_rows(const float * from, int m, int k, float * to) {
    for (int i = 0; i < m; i += 4) {
        LB_ROLLED for (int j = 0; j < k; j += 4) {
            vec rows[4], columns[4];
            for (int r = 0; r < 4; r++) {
                rows[r] = wasm_v128_load(from + (i + r) * k + j);
            }
            transpose(rows, columns);
            for (int r = 0; r < 4; r++) {
                float * vectors = to + SPREAD * (i * k + 4 * (j + r));
                wasm_v128_store(vectors, spread<0>(columns[r]));
                wasm_v128_store(vectors + 4, spread<1>(columns[r]));
                wasm_v128_store(vectors + 8, spread<2>(columns[r]));
                wasm_v128_store(vectors + 12, spread<3>(columns[r]));
            }
        }
    }
}

// to[m][n] += a[m][k] * b[k][n], a from spread_rows(); m a multiple of 4, n of 8.
void multiply_into(float * to, const float * a, const float * b, int m, int k, int n) {
    for (int i = 0; i < m; i += 4) {
        for (int j = 0; j < n; j += 8) {
            float * t = to + i * n + j;
            vec s[8];
            for (int r = 0; r < 4; r++) {
                s[2 * r] = wasm_v128_load(t + r * n);
                s[2 * r + 1] = wasm_v128_load(t + r * n + 4);
            }
            const float * x = a + SPREAD * i * k, *y = b + j;
            const float * const end = x + SPREAD * 4 * k;
            LB_ROLLED do {
                const vec y0 = wasm_v128_load(y), y1 = wasm_v128_load(y + 4);
                for (int r = 0; r < 4; r++) {
                    const vec v = wasm_v128_load(x + 4 * r);
                    s[2 * r] = multiply_add(v, y0, s[2 * r]);
                    s[2 * r + 1] = multiply_add(v, y1, s[2 * r + 1]);
                }
                x += SPREAD * 4;
                y += n;
                LB_STEP(x, y);
            } while (x != end);
            for (int r = 0; r < 4; r++) {
                wasm_v128_store(t + r * n, s[2 * r]);
                wasm_v128_store(t + r * n + 4, s[2 * r + 1]);
            }
        }
    }
}

// to[d][key], from rows of half precision.
void transpose_keys(const char * const * from, int n, int width, float * to) {
    if (n < KEYS) {
        memset(to, 0, static_cast<size_t>(KEYS * width) * sizeof(float));
    }
    for (int t = 0; t < n; t += 4) { // what stands for those beyond `n` is masked
        const char * const a = from[t], *const b = from[std::min(t + 1, n - 1)], *const c = from[std::min(t + 2, n - 1)];
        const char * const d = from[std::min(t + 3, n - 1)];
        float * column = to + t;
        size_t at = 0;
        LB_ROLLED do {
            const vec rows[4] = {exact_halves(a + at), exact_halves(b + at), exact_halves(c + at), exact_halves(d + at)};
            vec columns[4];
            transpose(rows, columns);
            for (int i = 0; i < 4; i++) {
                wasm_v128_store(column + i * KEYS, columns[i]);
            }
            at += 8;
            column += 4 * KEYS;
            LB_STEP(at, column);
        } while (at != 2 * static_cast<size_t>(width));
    }
}

void convert_values(const char * const * from, int n, int width, float * to) {
    for (int t = 0; t < n; t++) {
        const char * row = from[t];
        LB_ROLLED for (int d = 0; d < width; d += 4) {
            wasm_v128_store(to + t * width + d, exact_halves(row + 2 * d));
        }
    }
    memset(to + n * width, 0, static_cast<size_t>((KEYS - n) * width) * sizeof(float));
}

// to[m][width] += shares[m][KEYS] * values[KEYS][width], without what is masked: 0 times infinity is NaN.
void multiply_seen(float * to, const float * shares, const float * mask, const float * values, int m, int width) {
    for (int r = 0; r < m; r++) {
        for (int t = 0; t < KEYS; t++) {
            for (int d = 0; mask[r * KEYS + t] != -INFINITY && d < width; d++) {
                to[r * width + d] += shares[r * KEYS + t] * values[t * width + d];
            }
        }
    }
}

// Touches each cache line of n rows. What comes after works on one value after the other and would wait for each line
// in turn; here the processor fetches many at once.
void fetch(const char * const * from, int n, size_t row_size) {
    for (int t = 0; t < n; t++) {
        const char * row = from[t];
        LB_ROLLED for (size_t i = 0; i < row_size; i += 64) {
            uint32_t word;
            memcpy(&word, row + i, sizeof(word));
            __asm__ volatile("" : : "r"(word));
        }
    }
}

struct shape {
    const ggml_tensor * q, *k, *v, *mask, *sinks;
    int width_k, width_v;
    int64_t n_tokens, n_heads, n_heads_kv, n_keys;
    int heads, tokens; // of a tile
    float scale, max_bias, softcap;

    shape(const ggml_tensor * op, int n_threads)
        : q(op->src[0]), k(op->src[1]), v(op->src[2]), mask(op->src[3]), sinks(op->src[4]),
          width_k(static_cast<int>(k->ne[0])), width_v(static_cast<int>(v->ne[0])), n_tokens(q->ne[1]), n_heads(q->ne[2]),
          n_heads_kv(k->ne[2]), n_keys(k->ne[1]) {
        float parameters[3];
        memcpy(parameters, op->op_params, sizeof(parameters));
        scale = parameters[0];
        max_bias = parameters[1];
        softcap = parameters[2];
        // All heads that share K and V, if that leaves work for each thread.
        const int64_t shared = n_heads / n_heads_kv;
        heads = static_cast<int>(std::min<int64_t>(shared, ROWS));
        while (heads > 1 && n_heads_kv * ((shared + heads - 1) / heads) * n_tokens * q->ne[3] < n_threads) {
            heads = (heads + 1) / 2;
        }
        tokens = static_cast<int>(std::min<int64_t>(n_tokens, ROWS / heads));
    }

    int64_t head_tiles() const { return (n_heads / n_heads_kv + heads - 1) / heads; }
    int64_t token_tiles() const { return (n_tokens + tokens - 1) / tokens; }
    // Whether the keys of a tile are picked out of the cache. If not, a tile is of neighbouring tokens and neighbouring cells.
    bool picks() const { return several_sequences && mask != nullptr && q->ne[3] == 1; }

    // Floats of scratch memory: queries, scores, shares, mask, results, K, V; where tiles of tokens begin, keys that are seen.
    size_t scratch() const {
        const auto picked = static_cast<size_t>(picks() ? n_tokens + 1 + n_keys : 0);
        return static_cast<size_t>(SPREAD * ROWS * width_k + (2 + SPREAD) * ROWS * KEYS + ROWS * width_v + KEYS * width_k + KEYS * width_v) + picked;
    }

    float slope(int64_t head) const {
        if (max_bias <= 0.0f) {
            return 1.0f;
        }
        const auto below = static_cast<int64_t>(1) << static_cast<int>(floor(log2(static_cast<double>(n_heads))));
        const float base = powf(2.0f, -(head < below ? max_bias : max_bias / 2.0f) / static_cast<float>(below));
        return powf(base, static_cast<float>(head < below ? head + 1 : 2 * (head - below) + 1));
    }
};

const char * at(const ggml_tensor * t, int64_t i1, int64_t i2, int64_t i3) {
    return static_cast<const char *>(t->data) + static_cast<size_t>(i1) * t->nb[1] + static_cast<size_t>(i2) * t->nb[2] +
           static_cast<size_t>(i3) * t->nb[3];
}

// --- several sequences in one cache: a token sees some of the cells, and those of others are between them

constexpr uint16_t NOT_SEEN = 0xfc00; // minus infinity

const uint16_t * mask_of(const shape & s, int64_t token) {
    return reinterpret_cast<const uint16_t *>(at(s.mask, token, 0, 0));
}

// Which of two tokens' keys only one sees, and where.
struct comparison {
    int only_first = 0, only_second = 0;
    int64_t last_of_first = -1, first_of_second_only = INT64_MAX;

    comparison(const uint16_t * first, const uint16_t * second, int64_t n_keys) {
        const vec none = wasm_i16x8_splat(static_cast<int16_t>(NOT_SEEN));
        for (int64_t key = 0; key < n_keys; key += 8) {
            uint32_t a, b;
            if (key + 8 <= n_keys) {
                a = wasm_i16x8_bitmask(wasm_i16x8_ne(wasm_v128_load(first + key), none));
                b = wasm_i16x8_bitmask(wasm_i16x8_ne(wasm_v128_load(second + key), none));
            } else {
                a = b = 0;
                for (int64_t i = key; i < n_keys; i++) {
                    a |= (first[i] != NOT_SEEN ? 1u : 0u) << (i - key);
                    b |= (second[i] != NOT_SEEN ? 1u : 0u) << (i - key);
                }
            }
            if (a != 0) {
                last_of_first = key + 31 - __builtin_clz(a);
            }
            only_first += __builtin_popcount(a & ~b);
            only_second += __builtin_popcount(b & ~a);
            if ((b & ~a) != 0 && first_of_second_only == INT64_MAX) {
                first_of_second_only = key + __builtin_ctz(b & ~a);
            }
        }
    }

    // Whether the second comes after the first in its sequence. Then what it sees more lies behind all that the first sees, and the
    // first gets the same bits as if it were alone. With a sliding window that is not so; there a few keys may differ.
    bool is_next() const {
        return sliding_window ? only_first <= FEW_KEYS && only_second <= FEW_KEYS
                              : only_first == 0 && first_of_second_only > last_of_first;
    }
};

// Where the tiles of tokens begin, and at their end the number of tokens; how many tiles.
int64_t find_tiles(const shape & s, int32_t * begins) {
    int64_t n = 0;
    for (int64_t token = 0; token < s.n_tokens; token++) {
        if (token == 0 || token - begins[n - 1] == s.tokens ||
            !comparison(mask_of(s, token - 1), mask_of(s, token), s.n_keys).is_next()) {
            begins[n++] = static_cast<int32_t>(token);
        }
    }
    begins[n] = static_cast<int32_t>(s.n_tokens);
    return n;
}

// The keys that any of these tokens sees; how many.
int64_t find_keys(const shape & s, int64_t token, int64_t n_tokens, int32_t * keys) {
    const vec none = wasm_i16x8_splat(static_cast<int16_t>(NOT_SEEN));
    int64_t n = 0;
    for (int64_t key = 0; key < s.n_keys; key += 8) {
        uint32_t seen = 0;
        for (int64_t t = token; t < token + n_tokens; t++) {
            const uint16_t * row = mask_of(s, t) + key;
            if (key + 8 <= s.n_keys) {
                seen |= wasm_i16x8_bitmask(wasm_i16x8_ne(wasm_v128_load(row), none));
            } else {
                for (int64_t i = 0; i < s.n_keys - key; i++) {
                    seen |= (row[i] != NOT_SEEN ? 1u : 0u) << i;
                }
            }
        }
        for (; seen != 0; seen &= seen - 1) {
            keys[n++] = static_cast<int32_t>(key + __builtin_ctz(seen));
        }
    }
    return n;
}

// Adds the mask of a tile to `to`; whether any key is to be seen.
bool read_mask(const shape & s, int64_t head, int64_t n_heads, int64_t token, int64_t n_tokens, int64_t i3, const int32_t * keys,
               int n, float * to) {
    const bool together = keys[n - 1] - keys[0] == n - 1;
    vec any = wasm_f32x4_const_splat(-INFINITY);
    for (int64_t h = 0; h < n_heads; h++) {
        const float slope = s.slope(head + h);
        for (int64_t t = 0; t < n_tokens; t++) {
            float * row = to + (h * n_tokens + t) * KEYS;
            if (h > 0 && s.max_bias <= 0.0f && s.mask->ne[2] == 1) { // the same for all heads
                memcpy(row, to + t * KEYS, KEYS * sizeof(float));
                continue;
            }
            const auto * from = reinterpret_cast<const uint16_t *>(at(s.mask, token + t, (head + h) % s.mask->ne[2], i3 % s.mask->ne[3])) + (together ? keys[0] : 0);
            uint16_t picked[KEYS];
            for (int i = 0; !together && i < n; i++) {
                picked[i] = from[keys[i]];
            }
            from = together ? from : picked;
            for (int i = 0; i < KEYS; i += 4) {
                if (i + 4 <= n) {
                    const vec m = wasm_f32x4_mul(exact_halves(from + i), wasm_f32x4_splat(slope));
                    any = wasm_f32x4_max(any, m);
                    wasm_v128_store(row + i, m);
                } else {
                    for (int j = i; j < i + 4; j++) {
                        row[j] = j < n ? slope * GGML_FP16_TO_FP32(from[j]) : -INFINITY;
                        any = wasm_f32x4_max(any, wasm_f32x4_splat(row[j]));
                    }
                }
            }
        }
    }
    return !(largest_of(any) == -INFINITY);
}

// Whether all results are finite. What is masked may be no number, and would make NaN of what is seen; that is rare, and
// only then it is worth its while to be careful.
bool attend_tile(const shape & s, int64_t tile, int64_t token_tiles, bool careful, float * scratch, ggml_tensor * op) {
    auto * const begins = reinterpret_cast<int32_t *>(scratch + s.scratch()) - (s.picks() ? s.n_tokens + 1 + s.n_keys : 0);
    int32_t * const picked = begins + s.n_tokens + 1;
    const int64_t token = s.picks() ? begins[tile % token_tiles] : tile % token_tiles * s.tokens;
    const int64_t next_token = s.picks() ? begins[tile % token_tiles + 1] : std::min<int64_t>(token + s.tokens, s.n_tokens);
    int64_t rest = tile / token_tiles;
    const int64_t head_tile = rest % s.head_tiles();
    rest /= s.head_tiles();
    const int64_t head_kv = rest % s.n_heads_kv, i3 = rest / s.n_heads_kv;
    const int64_t shared = s.n_heads / s.n_heads_kv;
    const int64_t first = head_tile * s.heads, n_heads = std::min<int64_t>(s.heads, shared - first);
    const int64_t head = head_kv * shared + first;
    const int64_t n_tokens = next_token - token;
    const int n_rows = static_cast<int>(n_heads * n_tokens), padded = (n_rows + 3) / 4 * 4;

    float * const queries = scratch, *const scores = queries + SPREAD * ROWS * s.width_k, *const shares = scores + ROWS * KEYS;
    float * const mask = shares + SPREAD * ROWS * KEYS, *const results = mask + ROWS * KEYS, *const keys = results + ROWS * s.width_v, *const values = keys + KEYS * s.width_k;
    const float scale = s.softcap != 0.0f ? s.scale / s.softcap : s.scale;
    memset(keys, 0, static_cast<size_t>(padded * s.width_k) * sizeof(float)); // its memory serves, too
    memset(results, 0, static_cast<size_t>(padded * s.width_v) * sizeof(float));
    for (int r = 0; r < n_rows; r++) {
        const auto * from = reinterpret_cast<const float *>(at(s.q, token + r % n_tokens, head + r / n_tokens, i3));
        for (int d = 0; d < s.width_k; d++) {
            keys[r * s.width_k + d] = from[d] * scale;
        }
    }
    spread_rows(keys, padded, s.width_k, queries);
    float largest[ROWS], sums[ROWS];
    std::fill_n(largest, ROWS, -INFINITY);
    std::fill_n(sums, ROWS, 0.0f);

    const int64_t n_keys = s.picks() ? find_keys(s, token, n_tokens, picked) : s.n_keys;
    for (int64_t key = 0; key < n_keys; key += KEYS) {
        const int n = static_cast<int>(std::min<int64_t>(KEYS, n_keys - key));
        int32_t cells[KEYS];
        for (int i = 0; i < n; i++) {
            cells[i] = s.picks() ? picked[key + i] : static_cast<int32_t>(key + i);
        }
        if (s.mask && !read_mask(s, head, n_heads, token, n_tokens, i3, cells, n, mask)) {
            continue;
        }
        const char * k[KEYS], *v[KEYS];
        for (int i = 0; i < n; i++) {
            k[i] = at(s.k, cells[i], head_kv, i3 / (s.q->ne[3] / s.k->ne[3]));
            v[i] = at(s.v, cells[i], head_kv, i3 / (s.q->ne[3] / s.v->ne[3]));
        }
        fetch(k, n, 2 * static_cast<size_t>(s.width_k));
        fetch(v, n, 2 * static_cast<size_t>(s.width_v));
        transpose_keys(k, n, s.width_k, keys);
        memset(scores, 0, static_cast<size_t>(padded) * KEYS * sizeof(float));
        multiply_into(scores, queries, keys, padded, s.width_k, KEYS);
        for (int r = 0; r < n_rows; r++) {
            float * row = scores + r * KEYS;
            vec top = wasm_f32x4_const_splat(-INFINITY);
            for (int i = 0; i < KEYS; i += 4) {
                vec x = wasm_v128_load(row + i);
                if (s.softcap != 0.0f) {
                    for (int j = i; j < i + 4; j++) {
                        row[j] = s.softcap * tanhf(row[j]);
                    }
                    x = wasm_v128_load(row + i);
                }
                if (s.mask) {
                    const vec m = wasm_v128_load(mask + r * KEYS + i);
                    x = wasm_f32x4_add(x, m);
                    if (careful) {
                        x = wasm_v128_bitselect(m, x, wasm_f32x4_eq(m, wasm_f32x4_const_splat(-INFINITY)));
                    }
                } else if (i + 4 > n) {
                    for (int j = std::max(i, n); j < i + 4; j++) {
                        row[j] = -INFINITY;
                    }
                    x = i >= n ? wasm_f32x4_const_splat(-INFINITY) : wasm_v128_load(row + i);
                }
                wasm_v128_store(row + i, x);
                top = wasm_f32x4_max(top, x);
            }
            const float tile_largest = largest_of(top);
            if (tile_largest == -INFINITY) { // nothing of this tile is to be seen from here
                memset(row, 0, KEYS * sizeof(float));
                continue;
            }
            if (!(tile_largest <= largest[r])) { // a new maximum, or NaN
                const float less = expf(largest[r] - tile_largest);
                sums[r] *= less;
                for (int d = 0; d < s.width_v; d += 4) {
                    float * result = results + r * s.width_v + d;
                    wasm_v128_store(result, wasm_f32x4_mul(wasm_v128_load(result), wasm_f32x4_splat(less)));
                }
                largest[r] = tile_largest;
            }
            vec sum = zeros();
            const vec most = wasm_f32x4_splat(largest[r]);
            LB_ROLLED for (int i = 0; i < KEYS; i += 4) {
                const vec e = exponential_up_to_one(wasm_f32x4_sub(wasm_v128_load(row + i), most));
                wasm_v128_store(row + i, e);
                sum = wasm_f32x4_add(sum, e);
            }
            sums[r] += sum_of(sum);
        }
        convert_values(v, n, s.width_v, values);
        if (careful && s.mask) {
            multiply_seen(results, scores, mask, values, n_rows, s.width_v);
            continue;
        }
        spread_rows(scores, padded, KEYS, shares);
        multiply_into(results, shares, values, padded, KEYS, s.width_v);
    }

    vec differences = zeros();
    for (int r = 0; r < n_rows; r++) {
        const int64_t h = head + r / n_tokens, t = token + r % n_tokens;
        float * result = results + r * s.width_v;
        float factor = 1.0f;
        if (s.sinks) { // a score that takes its share and gives nothing
            const float sink = static_cast<const float *>(s.sinks->data)[h];
            const float most = std::max(largest[r], sink);
            factor = expf(largest[r] - most);
            sums[r] = sums[r] * factor + expf(sink - most);
        }
        factor = sums[r] == 0.0f ? 0.0f : factor / sums[r];
        auto * to = reinterpret_cast<float *>(static_cast<char *>(op->data) +
                                              static_cast<size_t>(i3 * op->ne[2] * op->ne[1] + h + t * op->ne[1]) * op->nb[1]);
        for (int d = 0; d < s.width_v; d += 4) {
            const vec v = wasm_f32x4_mul(wasm_v128_load(result + d), wasm_f32x4_splat(factor));
            wasm_v128_store(to + d, v);
            differences = wasm_v128_or(differences, wasm_f32x4_sub(v, v)); // 0, or NaN of infinity and NaN
        }
    }
    return wasm_i32x4_all_true(wasm_f32x4_eq(differences, differences));
}

} // namespace

void attend_to(bool several, bool window) {
    several_sequences = several;
    sliding_window = window;
}

bool can_attend(const ggml_tensor * op) {
    const ggml_tensor * q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3];
    return q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 && q->nb[0] == sizeof(float) &&
           k->nb[0] == 2 && v->nb[0] == 2 && k->ne[0] % 4 == 0 && v->ne[0] % 8 == 0 && q->ne[2] % k->ne[2] == 0 &&
           v->ne[2] == k->ne[2] && q->ne[3] % k->ne[3] == 0 && q->ne[3] % v->ne[3] == 0 &&
           (!mask || (mask->type == GGML_TYPE_F16 && mask->nb[0] == 2));
}

size_t attention_work_size(const ggml_tensor * op, int n_threads) {
    return static_cast<size_t>(n_threads) * shape(op, n_threads).scratch() * sizeof(float);
}

void attend(const ggml_compute_params * params, ggml_tensor * op) {
    const shape s(op, params->nth);
    float * scratch = static_cast<float *>(params->wdata) + static_cast<size_t>(params->ith) * s.scratch();
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);
    int64_t token_tiles = s.token_tiles();
    if (s.picks()) { // each thread for itself: less than they would wait for each other
        token_tiles = find_tiles(s, reinterpret_cast<int32_t *>(scratch + s.scratch()) - (s.n_tokens + 1 + s.n_keys));
    }
    const int64_t tiles = s.q->ne[3] * s.n_heads_kv * s.head_tiles() * token_tiles;
    for (int64_t tile = params->ith; tile < tiles; tile = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        if (!attend_tile(s, tile, token_tiles, false, scratch, op)) {
            attend_tile(s, tile, token_tiles, true, scratch, op);
        }
    }
}

} // namespace lb
