// What a grammar lets through: the drawn token is checked first, and the vocabulary only if it does not fit.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "llama.h"

struct llama_grammar;

namespace lb {

// Reads UTF-8, byte by byte.
class utf8 {
  public:
    bool read(const char * bytes, size_t n); // false: that is no UTF-8
    bool is_open() const { return missing > 0; }

  private:
    uint8_t missing = 0; // bytes of a character that is not complete
    uint8_t low = 0x80;  // what the next of them is at least,
    uint8_t high = 0xbf; // and at most
};

// The vocabulary as a tree of beginnings. A grammar that rules out a token rules out all whose text begins with it, so only
// those are checked that follow one which fits.
class token_tree {
  public:
    explicit token_tree(const llama_vocab * vocab);

    // All tokens that fit; false if more than a quarter of the vocabulary had to be checked.
    bool fitting(const llama_grammar & grammar, std::vector<llama_token> & found) const;

  private:
    std::vector<llama_token> first;                 // begin with no other token
    std::vector<std::vector<llama_token>> children; // of each token
};

class constraint {
  public:
    // Throws std::invalid_argument if llama.cpp refuses the grammar.
    constraint(const llama_vocab * vocab, const char * text, const char * root, bool controls);
    ~constraint();
    constraint(const constraint &) = delete;
    constraint & operator=(const constraint &) = delete;

    bool fits(llama_token token);
    void accept(llama_token token);         // one that fits: llama.cpp aborts for another
    bool accept_text(const std::string & text); // false if it does not fit

    // Replaces what a chain has drawn by something that fits. `row` is what the chain left, of which it drew one; `logits`
    // are those it began with. The token; -1 if none fits.
    llama_token choose(llama_sampler * chain, llama_token_data_array row, const float * logits);

  private:
    bool is_text(llama_token token) const;
    std::string spell(llama_token token) const;
    bool draw_from_few(llama_sampler * drawer, llama_token_data_array & row);
    bool keep_fitting(llama_token_data_array & row);
    void find_all(const float * logits, std::vector<llama_token_data> & row);

    struct free_grammar {
        void operator()(llama_grammar * p) const;
    };
    std::unique_ptr<llama_grammar, free_grammar> grammar;
    const llama_vocab * vocab;
    int32_t n_vocab;
    bool controls;
    bool has_beginnings; // a token fits only if the beginning of its text does
    utf8 said;
};

} // namespace lb
