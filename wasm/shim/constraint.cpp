// Grammars, with llama.cpp's own code behind its grammar sampler: that one ends the process for a token that does not fit.
#include "constraint.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "llama-grammar.h"
#include "state.h"

namespace lb {

namespace {

constexpr float RULED_OUT = -std::numeric_limits<float>::infinity();
constexpr size_t FEW = 256;  // candidates that are checked at once
constexpr size_t BEST = 64;  // so many of the best tokens are tried before the whole vocabulary is checked
constexpr int TRIES = 4;     // so often another token is drawn before that

llama_token_data_array array_of(std::vector<llama_token_data> & row) {
    return {row.data(), row.size(), -1, false};
}

std::string piece_of(const llama_vocab * vocab, llama_token token, bool special) {
    std::string text(64, '\0');
    int32_t n = llama_token_to_piece(vocab, token, text.data(), static_cast<int32_t>(text.size()), 0, special);
    if (n < 0) {
        text.resize(-n);
        n = llama_token_to_piece(vocab, token, text.data(), -n, 0, special);
    }
    text.resize(std::max(n, 0));
    return text;
}

bool is_drawn(const llama_token_data_array & row) {
    return row.selected >= 0 && row.data[row.selected].logit > RULED_OUT;
}

// Whether some element is a token or excludes characters of several bytes. Then a token can fit although the beginning of its
// text does not.
bool is_irregular(const llama_grammar & grammar) {
    bool inverse = false;
    for (const auto & rule : grammar.rules) {
        for (const auto & element : rule) {
            switch (element.type) {
            case LLAMA_GRETYPE_TOKEN:
            case LLAMA_GRETYPE_TOKEN_NOT: return true;
            case LLAMA_GRETYPE_CHAR_NOT: inverse = true; break;
            case LLAMA_GRETYPE_CHAR_ALT:
            case LLAMA_GRETYPE_CHAR_RNG_UPPER: break;
            default: inverse = false; break;
            }
            if (inverse && element.value > 0x7f) {
                return true;
            }
        }
    }
    return false;
}

} // namespace

bool utf8::read(const char * bytes, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        const auto c = static_cast<uint8_t>(bytes[i]);
        if (missing > 0) {
            if (c < low || c > high) {
                return false;
            }
            --missing;
            low = 0x80;
            high = 0xbf;
        } else if (c >= 0x80) {
            if (c < 0xc2 || c > 0xf4) {
                return false;
            }
            missing = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
            low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
            high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        }
    }
    return true;
}

token_tree::token_tree(const llama_vocab * vocab) {
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);
    std::vector<std::string> texts(n_vocab);
    std::vector<llama_token> order;
    children.resize(n_vocab);
    for (llama_token token = 0; token < n_vocab; ++token) {
        if (llama_vocab_is_eog(vocab, token)) {
            first.push_back(token);
        } else if (texts[token] = piece_of(vocab, token, true); !texts[token].empty()) {
            order.push_back(token);
        }
    }
    std::stable_sort(order.begin(), order.end(), [&](llama_token a, llama_token b) { return texts[a] < texts[b]; });
    std::vector<llama_token> path; // of which each begins the next
    for (const llama_token token : order) {
        while (!path.empty() && texts[token].compare(0, texts[path.back()].size(), texts[path.back()]) != 0) {
            path.pop_back();
        }
        (path.empty() ? first : children[path.back()]).push_back(token);
        path.push_back(token);
    }
}

bool token_tree::fitting(const llama_grammar & grammar, std::vector<llama_token> & found) const {
    std::vector<llama_token> front = first;
    std::vector<llama_token_data> row;
    size_t checked = 0;
    while (!front.empty()) {
        checked += front.size();
        if (4 * checked > children.size() + 4 * FEW) {
            return false;
        }
        row.clear();
        for (const llama_token token : front) {
            row.push_back({token, 0.0f, 0.0f});
        }
        llama_token_data_array array = array_of(row);
        llama_grammar_apply_impl(grammar, &array);
        front.clear();
        for (const auto & one : row) {
            if (one.logit > RULED_OUT) {
                found.push_back(one.id);
                front.insert(front.end(), children[one.id].begin(), children[one.id].end());
            }
        }
    }
    return true;
}

void constraint::free_grammar::operator()(llama_grammar * p) const {
    llama_grammar_free_impl(p);
}

constraint::constraint(const llama_vocab * vocab, const char * text, const char * root, bool controls)
    : grammar(llama_grammar_init_impl(vocab, text, root, false, nullptr, 0, nullptr, 0)), vocab(vocab),
      n_vocab(llama_vocab_n_tokens(vocab)), controls(controls), has_beginnings(false) {
    if (!grammar) {
        throw std::invalid_argument("llama.cpp refuses the grammar: " + logged_errors());
    }
    has_beginnings = !is_irregular(*grammar);
}

constraint::~constraint() = default;

std::string constraint::spell(llama_token token) const {
    return piece_of(vocab, token, false);
}

// Whether a token that the grammar accepts is that text in the answer too: the grammar takes control tokens for their
// spelling, and bytes that are no UTF-8 for characters.
bool constraint::is_text(llama_token token) const {
    if (llama_vocab_is_eog(vocab, token)) {
        return !said.is_open();
    }
    const std::string text = spell(token);
    if (text.empty()) {
        return controls && !said.is_open();
    }
    utf8 further = said;
    return further.read(text.data(), text.size());
}

bool constraint::fits(llama_token token) {
    llama_token_data one = {token, 0.0f, 0.0f};
    llama_token_data_array row = {&one, 1, -1, false};
    llama_grammar_apply_impl(*grammar, &row);
    return one.logit > RULED_OUT && is_text(token);
}

void constraint::accept(llama_token token) {
    if (!llama_vocab_is_eog(vocab, token)) {
        const std::string text = spell(token);
        said.read(text.data(), text.size());
    }
    llama_grammar_accept_impl(*grammar, token);
}

bool constraint::accept_text(const std::string & text) {
    if (text.empty()) {
        return true;
    }
    if (!said.read(text.data(), text.size())) {
        return false;
    }
    try {
        llama_grammar_accept_str(*grammar, text);
    } catch (const std::runtime_error &) { // no way is left to read it
        return false;
    }
    return true;
}

llama_token constraint::choose(llama_sampler * chain, llama_token_data_array row, const float * logits) {
    llama_sampler * drawer = llama_sampler_chain_get(chain, llama_sampler_chain_n(chain) - 1);
    if (is_drawn(row) && (fits(row.data[row.selected].id) || draw_from_few(drawer, row))) {
        return row.data[row.selected].id;
    }
    std::vector<llama_token_data> all;
    find_all(logits, all);
    while (!all.empty()) {
        std::vector<llama_token_data> left = all;
        row = array_of(left);
        llama_sampler_apply(chain, &row);
        if (!is_drawn(row)) {
            break;
        }
        const llama_token token = row.data[row.selected].id;
        if (fits(token)) {
            return token;
        }
        all.erase(std::find_if(all.begin(), all.end(), [&](const llama_token_data & one) { return one.id == token; }));
    }
    return LLAMA_TOKEN_NULL;
}

// Draws again from what the other samplers left; false if nothing of it fits.
bool constraint::draw_from_few(llama_sampler * drawer, llama_token_data_array & row) {
    const bool greedy = std::string(llama_sampler_name(drawer)).find("greedy") != std::string::npos;
    if (row.size > FEW && greedy) {
        std::partial_sort(row.data, row.data + BEST, row.data + row.size,
                          [](const llama_token_data & a, const llama_token_data & b) { return a.logit > b.logit; });
        row.size = BEST;
        row.sorted = true;
    }
    for (int i = 0; row.size > FEW && i < TRIES; ++i) {
        row.data[row.selected].logit = RULED_OUT;
        row.sorted = false;
        llama_sampler_apply(drawer, &row);
        if (!is_drawn(row)) {
            return false;
        }
        if (fits(row.data[row.selected].id)) {
            return true;
        }
    }
    if (row.size > FEW || !keep_fitting(row)) {
        return false;
    }
    llama_sampler_apply(drawer, &row);
    return is_drawn(row);
}

bool constraint::keep_fitting(llama_token_data_array & row) {
    std::vector<llama_token_data> few(row.data, row.data + row.size);
    for (auto & one : few) {
        one.logit = 0.0f;
    }
    llama_token_data_array array = array_of(few);
    llama_grammar_apply_impl(*grammar, &array);
    size_t kept = 0;
    for (size_t i = 0; i < row.size; ++i) {
        if (few[i].logit > RULED_OUT && is_text(few[i].id)) {
            row.data[kept++] = row.data[i];
        }
    }
    row.size = kept;
    return kept > 0;
}

void constraint::find_all(const float * logits, std::vector<llama_token_data> & row) {
    std::vector<llama_token> found;
    if (has_beginnings) {
        if (!current.tokens) {
            current.tokens = std::make_unique<token_tree>(vocab);
        }
        if (current.tokens->fitting(*grammar, found)) {
            for (const llama_token token : found) {
                if (is_text(token)) {
                    row.push_back({token, logits[token], 0.0f});
                }
            }
            return;
        }
    }
    for (llama_token token = 0; token < n_vocab; ++token) {
        row.push_back({token, logits[token], 0.0f});
    }
    llama_token_data_array array = array_of(row);
    llama_grammar_apply_impl(*grammar, &array);
    row.erase(std::remove_if(row.begin(), row.end(), [](const llama_token_data & one) { return !(one.logit > RULED_OUT); }),
              row.end());
}

} // namespace lb
