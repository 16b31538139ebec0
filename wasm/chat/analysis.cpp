// llama.cpp analyses a template by rendering it some forty times, on each apply. The template of an instance stays the
// same, so its analysis is kept: edits.py makes llama.cpp ask here.
#include "analysis.h"

#include <map>
#include <memory>
#include <stdexcept>
#include <string>

#include "bounds.h"

namespace {

std::unique_ptr<autoparser::autoparser> kept;
std::string failure; // the analysis of some templates fails, each time anew
const common_chat_template * kept_of = nullptr;

struct {
    const common_chat_template * of = nullptr;
    bool marks = false;
    common_json input;
    std::string text;
} last;

std::map<std::string, std::string> beginnings; // of answers, by what they may depend on

std::string key_of(const autoparser::generation_params & inputs) {
    std::string key = inputs.enable_thinking ? "t" : "f";
    key += inputs.tools.empty() ? '-' : 'T';
    key += std::to_string(int(inputs.tool_choice));
    if (!inputs.messages.empty()) {
        const auto & message = inputs.messages.back();
        key += message.value("role", "");
        key += message.contains("tool_calls") ? 'c' : '-';
    }
    return key + inputs.extra_context.dump_safe();
}

} // namespace

bool lb_chat_keeps_parser = true;

const autoparser::autoparser & lb_chat_analysis(const common_chat_template & tmpl) {
    if (kept_of != &tmpl) {
        lb_chat_forget_analysis();
        auto made = std::make_unique<autoparser::autoparser>();
        try {
            made->analyze_template(tmpl);
        } catch (const std::exception & error) {
            if (lb_chat::exceeded) {
                throw;
            }
            failure = error.what();
            made.reset();
        }
        kept = std::move(made);
        kept_of = &tmpl;
    }
    if (!kept) {
        throw std::runtime_error(failure);
    }
    return *kept;
}

const std::string * lb_chat_rendered(const common_chat_template & tmpl, const common_json & input, bool marks) {
    return last.of == &tmpl && last.marks == marks && last.input == input ? &last.text : nullptr;
}

void lb_chat_keep_rendered(const common_chat_template & tmpl, common_json && input, bool marks, const std::string & text) {
    last = {&tmpl, marks, std::move(input), text};
}

void lb_chat_forget_rendered() {
    last = {};
}

const std::string * lb_chat_generation_prompt(
    const common_chat_template & tmpl, const autoparser::generation_params & inputs) {
    if (!inputs.add_generation_prompt || last.of != &tmpl || !last.input.value("add_generation_prompt", false)) {
        return nullptr;
    }
    const auto found = beginnings.find(key_of(inputs));
    return found != beginnings.end() && string_ends_with(last.text, found->second) ? &found->second : nullptr;
}

std::string lb_chat_keep_generation_prompt(const autoparser::generation_params & inputs, std::string && text) {
    if (inputs.is_inference && !text.empty()) {
        if (beginnings.size() > 64) {
            beginnings.clear();
        }
        beginnings[key_of(inputs)] = text;
    }
    return std::move(text);
}

void lb_chat_forget_analysis() {
    beginnings.clear();
    lb_chat_forget_rendered();
    kept.reset();
    failure.clear();
    kept_of = nullptr;
}
