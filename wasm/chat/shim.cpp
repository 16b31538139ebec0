// The calls of lb_chat.h.
#include "lb_chat.h"

#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include "analysis.h"
#include "bounds.h"
#include "chat.h"
#include "host.h"

using json = common_json;

namespace {

// Why an argument is no use, as opposed to what a template says.
struct bad_argument : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// One answer that is being read.
struct reader {
    std::string parser;                      // as llama.cpp writes it; loaded when something is to be read
    std::shared_ptr<common_peg_arena> arena;
    common_chat_parser_params params;
    std::string text;                        // what it was given
    common_chat_msg told;                    // what it made of that
};

constexpr size_t MOST_READERS = 64;

std::string input;
std::string output;
common_chat_templates_ptr templates;
std::optional<bool> thinks; // whether the template can turn thinking on and off
std::map<int32_t, reader> readers;
int32_t last_id = 0;

json all(const std::vector<std::string> & texts) {
    json out = json::array();
    for (const auto & text : texts) {
        out.push_back(text);
    }
    return out;
}

json given(const json & in, const char * name) {
    return in.contains(name) ? in.at(name) : json();
}

json caps() {
    json out = json::object();
    for (const auto & [name, value] : common_chat_templates_get_caps(templates.get())) {
        out[name] = value;
    }
    return out;
}

json open(const json & in) {
    readers.clear();
    thinks.reset();
    lb_chat_forget_analysis();
    templates.reset();
    templates = common_chat_templates_init(nullptr, in.at("template").get<std::string>(),
        in.value("bos_token", ""), in.value("eos_token", ""));
    json out = json::object();
    out["caps"] = caps();
    return out;
}

const char * kind_of(common_grammar_trigger_type type) {
    switch (type) {
        case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:        return "token";
        case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:         return "word";
        case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:      return "pattern";
        case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL: return "pattern_full";
    }
    return "";
}

// The same parser as one that was loaded before, if there is one: loading takes longer than reading a token.
std::shared_ptr<common_peg_arena> arena_of(reader & wanted) {
    for (const auto & [_, other] : readers) {
        if (other.arena && other.parser == wanted.parser) {
            return other.arena;
        }
    }
    auto arena = std::make_shared<common_peg_arena>();
    if (!wanted.parser.empty()) {
        arena->load(wanted.parser);
    }
    return arena;
}

common_chat_params apply(common_chat_templates_inputs & inputs) {
    try {
        return common_chat_templates_apply(templates.get(), inputs);
    } catch (const std::exception &) {
        // Some templates render, but llama.cpp cannot find out how their answers look. Then an answer is all text.
        if (lb_chat::exceeded || !inputs.tools.empty() || !inputs.json_schema.empty()) {
            throw;
        }
    }
    inputs.force_pure_content = true;
    return common_chat_templates_apply(templates.get(), inputs);
}

// As llama-server does it when it starts.
bool can_think() {
    if (!thinks) {
        try {
            thinks = common_chat_templates_support_enable_thinking(templates.get());
        } catch (const std::exception &) {
            if (lb_chat::exceeded) {
                throw;
            }
            thinks = true; // it refuses even one word of a user
        }
    }
    return *thinks;
}

// As llama-server does it (oaicompat_chat_params_parse), without the options of its command line.
json render(const json & in) {
    if (!templates) {
        throw bad_argument("no template is open");
    }
    lb_chat::now = in.value("now", int64_t(0));
    common_chat_templates_inputs inputs;
    inputs.messages = common_chat_msgs_parse_oaicompat(in.at("messages"));
    inputs.tools = common_chat_tools_parse_oaicompat(given(in, "tools"));
    inputs.tool_choice = common_chat_tool_choice_parse_oaicompat(in.value("tool_choice", "auto"));
    inputs.parallel_tool_calls = in.value("parallel_tool_calls",
        common_chat_templates_get_caps(templates.get())["supports_parallel_tool_calls"]);
    if (const auto schema = given(in, "json_schema"); !schema.is_null()) {
        inputs.json_schema = schema.dump();
    }
    inputs.add_generation_prompt = in.value("add_generation_prompt", true);
    inputs.enable_thinking = in.value("enable_thinking", true) && can_think();
    inputs.reasoning_format = COMMON_REASONING_FORMAT_AUTO;
    if (const auto kwargs = given(in, "kwargs"); kwargs.is_object()) {
        for (const auto & [name, value] : kwargs.items()) {
            inputs.chat_template_kwargs[name] = value.dump();
        }
    }
    lb_chat_forget_rendered();
    lb_chat_keeps_parser = in.value("parse", false);
    auto made = apply(inputs);
    lb_chat_forget_rendered();

    json out = json::object();
    out["prompt"] = made.prompt;
    if (!in.value("parse", false)) {
        return out;
    }
    out["generation_prompt"] = made.generation_prompt;
    out["grammar"] = made.grammar;
    out["grammar_lazy"] = made.grammar_lazy;
    json triggers = json::array();
    for (const auto & trigger : made.grammar_triggers) {
        json one = json::object();
        one["kind"] = std::string(kind_of(trigger.type));
        one["value"] = trigger.value;
        triggers.push_back(one);
    }
    out["triggers"] = triggers;
    out["stops"] = all(made.additional_stops);
    out["tokens"] = all(made.preserved_tokens);
    json thinking = json::array();
    if (made.supports_thinking) {
        thinking.push_back(made.thinking_start_tag);
        for (const auto & tag : made.thinking_end_tags) {
            thinking.push_back(tag);
        }
    }
    out["thinking"] = thinking;
    out["format"] = std::string(common_chat_format_name(made.format));

    reader added;
    added.parser = std::move(made.parser);
    added.params.format = made.format;
    added.params.reasoning_format = COMMON_REASONING_FORMAT_AUTO;
    added.params.generation_prompt = made.generation_prompt;
    added.told.role = "assistant";
    readers.emplace(++last_id, std::move(added));
    while (readers.size() > MOST_READERS) {
        readers.erase(readers.begin());
    }
    out["parser"] = last_id;
    return out;
}

// What is new in a text, and whether it follows what was told.
json change(const std::string & told, const std::string & now) {
    const bool adds = now.size() >= told.size() && now.compare(0, told.size(), told) == 0;
    json out = json::array();
    out.push_back(adds);
    out.push_back(adds ? now.substr(told.size()) : now);
    return out;
}

json parse(const json & in) {
    const auto found = readers.find(in.value("parser", int32_t(-1)));
    if (found == readers.end()) {
        throw bad_argument("no such parser");
    }
    auto & one = found->second;
    if (!one.arena) {
        one.arena = arena_of(one);
    }
    one.text += in.at("text").get<std::string>();
    auto now = common_chat_peg_parse(*one.arena, one.text, in.value("partial", false), one.params);

    json out = json::object();
    out["content"] = change(one.told.content, now.content);
    out["reasoning"] = change(one.told.reasoning_content, now.reasoning_content);
    json calls = json::array();
    for (size_t i = 0; i < now.tool_calls.size(); ++i) {
        const auto & call = now.tool_calls[i];
        json each = json::object();
        each["id"] = call.id;
        each["name"] = call.name;
        each["arguments"] = change(i < one.told.tool_calls.size() ? one.told.tool_calls[i].arguments : "", call.arguments);
        calls.push_back(each);
    }
    out["calls"] = calls;
    one.told = std::move(now);
    return out;
}

void put(const std::string & text) {
    const auto size = uint32_t(text.size());
    output.resize(sizeof size);
    std::memcpy(output.data(), &size, sizeof size);
    output += text;
}

std::string failure(const char * kind, const char * why) {
    json out = json::object();
    out["kind"] = std::string(kind);
    out["error"] = std::string(why);
    return out.dump_safe();
}

std::string answered(const json & in, json (*function)(const json &)) {
    try {
        lb_chat::allow(input.size());
        const auto out = function(in);
        lb_chat::end_counting();
        return lb_chat::exceeded ? failure("bounds", "") : out.dump_safe();
    } catch (const bad_argument & error) {
        lb_chat::end_counting();
        return failure("argument", error.what());
    } catch (const std::bad_alloc &) {
        lb_chat::end_counting();
        return failure("bounds", "");
    } catch (const std::exception & error) {
        lb_chat::end_counting();
        return lb_chat::exceeded ? failure("bounds", "") : failure("template", error.what());
    }
}

const void * answer(uint32_t size, json (*function)(const json &)) {
    lb_chat::logged.clear();
    try {
        if (size > input.size()) {
            throw bad_argument("longer than lb_chat_input was asked for");
        }
        input.resize(size);
        put(answered(json::parse(input), function));
    } catch (const std::bad_alloc &) {
        put(R"({"kind": "bounds", "error": ""})");
    } catch (const std::exception & error) {
        put(failure("argument", error.what()));
    }
    return output.data();
}

} // namespace

LB_CHAT_EXPORT(lb_chat_abi_version) int32_t lb_chat_abi_version() {
    return LB_CHAT_ABI_VERSION;
}

LB_CHAT_EXPORT(lb_chat_input) char * lb_chat_input(uint32_t size) {
    try {
        input.resize(size);
        return input.data();
    } catch (const std::exception &) {
        return nullptr;
    }
}

LB_CHAT_EXPORT(lb_chat_open) const void * lb_chat_open(uint32_t size) {
    return answer(size, open);
}

LB_CHAT_EXPORT(lb_chat_render) const void * lb_chat_render(uint32_t size) {
    return answer(size, render);
}

LB_CHAT_EXPORT(lb_chat_parse) const void * lb_chat_parse(uint32_t size) {
    return answer(size, parse);
}

LB_CHAT_EXPORT(lb_chat_release) void lb_chat_release(int32_t parser) {
    readers.erase(parser);
}
