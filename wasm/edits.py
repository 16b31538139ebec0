"""Edits of llama.cpp's own files before they are compiled: few, and checked.

Each edit has the text it replaces. If that text is not found exactly once, the source has changed, and the build stops
so that somebody looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from source import BuildError

__all__ = ["CHAT_EDITS", "EDITS", "Edit", "apply"]


@dataclass(frozen=True)
class Edit:
    """One replacement.

    Attributes:
        file: path below llama.cpp's folder.
        old: text that occurs in it once.
        new: its replacement.
        why: the reason, in one sentence.
    """

    file: str
    old: str
    new: str
    why: str


EDITS = (
    Edit(
        "ggml/src/ggml-cpu/ggml-cpu.c",
        "#if defined(__wasi__)\n    // WASI doesn't support parallelism yet\n    n_threads = 1;\n#endif\n",
        "",
        "runtime/threads.c is the parallelism that WASI does not have",
    ),
    Edit(
        "ggml/src/ggml-cpu/ggml-cpu.c",
        "#else\nstatic inline void ggml_thread_cpu_relax(void) {;}\n#endif",
        "#else\nvoid ggml_thread_cpu_relax(void);\n#endif",
        "a thread that spins must end when another one has trapped: runtime/threads.c",
    ),
    Edit(
        "ggml/src/ggml-cpu/ops.cpp",
        "    GGML_ASSERT(n_offs % 2 == 0);\n",
        "    GGML_ASSERT(n_offs % 2 == 0);\n    GGML_ASSERT(n_dims >= 0);\n",
        "the loop over channels that are not rotated never ends where fewer than none are",
    ),
    Edit(
        "src/llama-vocab.cpp",
        "        std::unordered_map<std::string, float> suffix_to_score;\n",
        "        std::unordered_map<std::string, float> suffix_to_score;\n        double steps = 0;\n",
        "as below",
    ),
    Edit(
        "src/llama-vocab.cpp",
        "            // Extract suffixes character by character (UTF-8 aware)\n"
        "            std::vector<uint32_t> cpts = unicode_cpts_from_utf8(entry.text);\n",
        "            std::vector<uint32_t> cpts = unicode_cpts_from_utf8(entry.text);\n"
        "            steps += double(cpts.size()) * cpts.size() * cpts.size();\n"
        '            if (steps > 4e9) throw std::runtime_error("its words are too long for a table of their suffixes");\n',
        "plamo2's table of suffixes takes the cube of a word's length: a word of 5,000 characters took minutes",
    ),
)
"""For llama.wasm."""

CHAT_EDITS = (
    Edit(
        "common/chat.cpp",
        "        throw e;\n",
        "        throw;\n",
        "what is wrong with a template is in the exception, which a copy cuts off",
    ),
    Edit(
        "common/chat.cpp",
        "        struct autoparser::autoparser autoparser;\n        autoparser.analyze_template(tmpl);\n",
        "        const auto & autoparser = lb_chat_analysis(tmpl);\n",
        "a template is analysed once, not on each apply: chat/analysis.cpp",
    ),
    Edit(
        "common/chat.cpp",
        "        common_peg_arena arena;\n        arena.load(auto_params.parser);\n",
        "",
        "the parser is read again for a debug message only, which costs more than a render",
    ),
    Edit(
        "common/chat.cpp",
        "arena.dump(arena.root()).c_str(), auto_params.generation_prompt.c_str());\n        return auto_params;",
        '"", auto_params.generation_prompt.c_str());\n        return auto_params;',
        "as above",
    ),
    Edit(
        "common/chat.cpp",
        "\n    autoparser::generation_params params = inputs;\n    params.add_generation_prompt = false;\n",
        "\n    if (const auto * kept = lb_chat_generation_prompt(tmpl, inputs)) {\n        return *kept;\n    }\n"
        "    autoparser::generation_params params = inputs;\n    params.add_generation_prompt = false;\n",
        "what begins an answer is found by rendering all messages again without it; it is the same from turn to turn",
    ),
    Edit(
        "common/chat.cpp",
        "    return gen_prompt.substr(prefix_len);\n",
        "    return lb_chat_keep_generation_prompt(inputs, gen_prompt.substr(prefix_len));\n",
        "as above",
    ),
    Edit(
        "common/chat.cpp",
        '#include "chat.h"\n',
        '#include "chat.h"\n#include "analysis.h"\n',
        "declares lb_chat_analysis",
    ),
    Edit(
        "common/jinja/runtime.cpp",
        "    auto builtins = global_builtins();\n    if (!it->is_undefined()) {",
        "    const auto & builtins = global_builtins();\n    if (!it->is_undefined()) {",
        "each identifier of a template copied the table of all functions: half the time of a render",
    ),
    Edit(
        "common/jinja/runtime.cpp",
        "    auto builtins = input->get_builtins();\n",
        "    const auto & builtins = input->get_builtins();\n",
        "so did each member of an object",
    ),
    Edit(
        "common/jinja/value.h",
        "bool is_val(const value & ptr) {\n"
        "    using PointeeType = typename extract_pointee<T>::type;\n"
        "    return dynamic_cast<const PointeeType*>(ptr.get()) != nullptr;\n",
        "bool is_val(const value & ptr) {\n    return is_val<T>(ptr.get());\n",
        "as below",
    ),
    Edit(
        "common/jinja/value.h",
        "template<typename T>\nbool is_val(const value & ptr) {",
        "template<typename T> bool is_val(const value_t * ptr);\ntemplate<typename T>\nbool is_val(const value & ptr) {",
        "as below",
    ),
    Edit(
        "common/jinja/value.h",
        "bool is_val(const value_t * ptr) {\n"
        "    using PointeeType = typename extract_pointee<T>::type;\n"
        "    return dynamic_cast<const PointeeType*>(ptr) != nullptr;\n}\n",
        "bool is_val(const value_t * ptr) {\n"
        "    using PointeeType = typename extract_pointee<T>::type;\n"
        "    return lb_chat_is<PointeeType>(ptr);\n}\n",
        "the type of a value is compared, not searched: tuples are the only values that are something else, too",
    ),
    Edit(
        "common/jinja/value.h",
        "// Helper to check the type of a value\n",
        "struct value_array_t;\nstruct value_tuple_t;\n"
        "template<typename T, typename V, typename Tuple = value_tuple_t>\n"
        "bool lb_chat_is(const V * ptr) {\n"
        "    return ptr && (typeid(*ptr) == typeid(T) ||\n"
        "        (std::is_same<T, value_array_t>::value && typeid(*ptr) == typeid(Tuple)));\n}\n\n"
        "// Helper to check the type of a value\n",
        "as above",
    ),
    Edit(
        "common/jinja/value.h",
        "        val_flt = static_cast<double>(v);\n        val = mk_val<value_int>(val_int);\n    }\n"
        '    virtual std::string type() const override { return "Boolean"; }',
        "        val_flt = static_cast<double>(v);\n    }\n"
        '    virtual std::string type() const override { return "Boolean"; }',
        "a boolean needs an integer only for its hash",
    ),
    Edit(
        "common/jinja/value.h",
        "        return val->unique_hash();\n    }\nprotected:\n",
        "        return value_int_t(val_int).unique_hash();\n    }\nprotected:\n",
        "as above",
    ),
    Edit(
        "common/jinja/value.h",
        "    virtual bool operator==(const value_t & other) const { return equivalent(other); }\n",
        "    virtual bool operator==(const value_t & other) const { lb_chat_step(1); return equivalent(other); }\n",
        "a list can be searched for ever without an allocation: chat/bounds.cpp",
    ),
    Edit(
        "common/jinja/value.h",
        "namespace jinja {\n\nstruct value_t;\n",
        "void lb_chat_step(size_t steps);\n\nnamespace jinja {\n\nstruct value_t;\n",
        "declares it, for all of Jinja",
    ),
    Edit(
        "common/jinja/runtime.h",
        "        value default_val = mk_val<value_undefined>(name);\n        return env->at(name, default_val);\n",
        "        for (const auto & [key, val] : env->as_ordered_object()) {\n"
        "            if (key->val_str.parts.size() == 1 && key->val_str.parts[0].val == name) {\n"
        "                return val;\n            }\n        }\n"
        "        return mk_val<value_undefined>(name);\n",
        "a variable is looked up in a table of twenty names, without making two values for it",
    ),
    Edit(
        "common/jinja/runtime.cpp",
        "value statement::execute(context & ctx) const {\n    try {",
        "value statement::execute(context & ctx) const {\n    lb_chat_step(1);\n    try {",
        "a template ends: chat/bounds.cpp",
    ),
    Edit(
        "common/jinja/runtime.cpp",
        '        loop_obj->insert("index", mk_val<value_int>(i + 1));\n'
        '        loop_obj->insert("index0", mk_val<value_int>(i));\n'
        '        loop_obj->insert("revindex", mk_val<value_int>(filtered_items.size() - i));\n'
        '        loop_obj->insert("revindex0", mk_val<value_int>(filtered_items.size() - i - 1));\n'
        '        loop_obj->insert("first", mk_val<value_bool>(i == 0));\n'
        '        loop_obj->insert("last", mk_val<value_bool>(i == filtered_items.size() - 1));\n'
        '        loop_obj->insert("length", mk_val<value_int>(filtered_items.size()));\n'
        '        loop_obj->insert("previtem", i > 0 ? filtered_items[i - 1] : mk_val<value_undefined>("previtem"));\n'
        '        loop_obj->insert("nextitem", i < filtered_items.size() - 1 ? filtered_items[i + 1] : mk_val<value_undefined>("nextitem"));\n',
        "        static const value names[] = {\n"
        '            mk_val<value_string>("index"),\n'
        '            mk_val<value_string>("index0"),\n'
        '            mk_val<value_string>("revindex"),\n'
        '            mk_val<value_string>("revindex0"),\n'
        '            mk_val<value_string>("first"),\n'
        '            mk_val<value_string>("last"),\n'
        '            mk_val<value_string>("length"),\n'
        '            mk_val<value_string>("previtem"),\n'
        '            mk_val<value_string>("nextitem"),\n'
        "        };\n"
        "        const value values[] = {\n"
        "            mk_val<value_int>(i + 1),\n"
        "            mk_val<value_int>(i),\n"
        "            mk_val<value_int>(filtered_items.size() - i),\n"
        "            mk_val<value_int>(filtered_items.size() - i - 1),\n"
        "            mk_val<value_bool>(i == 0),\n"
        "            mk_val<value_bool>(i == filtered_items.size() - 1),\n"
        "            mk_val<value_int>(filtered_items.size()),\n"
        '            i > 0 ? filtered_items[i - 1] : value(mk_val<value_undefined>("previtem")),\n'
        '            i < filtered_items.size() - 1 ? filtered_items[i + 1] : value(mk_val<value_undefined>("nextitem")),\n'
        "        };\n"
        "        for (size_t n = 0; n < std::size(names); ++n) {\n"
        "            loop_obj->unordered.emplace(names[n], values[n]);\n"
        "            loop_obj->val_obj.push_back({names[n], values[n]});\n"
        "        }\n",
        "each round of a loop made its nine names anew, and hashed them three times",
    ),
    Edit(
        "common/jinja/runtime.cpp",
        "        context loop_scope(scope);\n",
        "        lb_chat_step(8);\n"
        "        std::optional<context> loop_scope;\n"
        "        if (select_expr && test_expr) {\n            loop_scope.emplace(scope);\n        }\n",
        "also one with loops around nothing; and a scope for each item is only needed where items are chosen",
    ),
    Edit(
        "common/jinja/runtime.cpp",
        "            scope_update_fn(loop_scope);\n            value test_val = test_expr->execute(loop_scope);",
        "            scope_update_fn(*loop_scope);\n            value test_val = test_expr->execute(*loop_scope);",
        "as above",
    ),
    Edit(
        "common/jinja/runtime.cpp",
        "#include <vector>\n#include <memory>\n",
        "#include <vector>\n#include <memory>\n#include <optional>\n",
        "as above",
    ),
    Edit(
        "common/jinja/runtime.h",
        "    context(const context & parent) : context() {\n"
        "        // inherit variables (for example, when entering a new scope)\n"
        "        auto & pvar = parent.env->as_ordered_object();\n"
        "        for (const auto & pair : pvar) {\n"
        "            set_val(pair.first, pair.second);\n"
        "        }\n",
        "    context(const context & parent) : env(std::make_shared<value_object_t>(*parent.env)) {\n",
        "a scope copies its parent's table at once, without a hash for each variable",
    ),
    Edit(
        "common/chat.cpp",
        "    jinja::global_from_json(ctx, inp, inputs.mark_input);\n",
        "    if (const auto * kept = lb_chat_rendered(tmpl, inp, inputs.mark_input)) {\n"
        "        return *kept;\n    }\n"
        "    jinja::global_from_json(ctx, inp, inputs.mark_input);\n",
        "each apply renders the same prompt twice: chat/analysis.cpp",
    ),
    Edit(
        "common/chat.cpp",
        "        result = result.substr(0, result.size() - tmpl.eos_token().size());\n    }\n    return result;\n",
        "        result = result.substr(0, result.size() - tmpl.eos_token().size());\n    }\n"
        "    lb_chat_keep_rendered(tmpl, std::move(inp), inputs.mark_input, result);\n    return result;\n",
        "as above",
    ),
    Edit(
        "common/jinja/value.h",
        "        return typeid(*this) == typeid(other) && val_str.str() == other.val_str.str();\n",
        "        if (val_str.parts.size() == 1 && other.val_str.parts.size() == 1) {\n"
        "            return typeid(*this) == typeid(other) && val_str.parts[0].val == other.val_str.parts[0].val;\n"
        "        }\n"
        "        return typeid(*this) == typeid(other) && val_str.str() == other.val_str.str();\n",
        "two texts were copied to compare them: a tenth of a render",
    ),
    Edit(
        "common/jinja/value.h",
        "        if (has_key(key)) {\n            // if key exists, replace value in ordered list instead of appending\n",
        "        const auto [found, added] = unordered.try_emplace(key, val);\n"
        "        if (!added) {\n            found->second = val;\n"
        "            // if key exists, replace value in ordered list instead of appending\n",
        "each key was looked up twice",
    ),
    Edit(
        "common/jinja/value.h",
        "        unordered[key] = val;\n        if (!replaced) {",
        "        if (!replaced) {",
        "as above",
    ),
    Edit(
        "common/jinja/value.h",
        "        if (!has_key(key)) {\n            return default_val;\n        }\n        return unordered.at(key);\n",
        "        const auto found = unordered.find(key);\n"
        "        return found == unordered.end() ? default_val : found->second;\n",
        "as above",
    ),
    Edit(
        "common/jinja/string.cpp",
        "    std::ostringstream oss;\n    for (const auto & part : parts) {\n        oss << part.val;\n    }\n"
        "    return oss.str();\n",
        "    std::string whole;\n    whole.reserve(length());\n    for (const auto & part : parts) {\n"
        "        whole += part.val;\n    }\n    return whole;\n",
        "a stream is made of locales",
    ),
    Edit(
        "common/chat-auto-parser-generator.cpp",
        "    data.parser = parser.save();\n",
        "    if (lb_chat_keeps_parser) {\n        data.parser = parser.save();\n    }\n",
        "who asks for a prompt only needs no parser",
    ),
    Edit(
        "common/chat-auto-parser-generator.cpp",
        '#include "chat-auto-parser.h"\n',
        '#include "chat-auto-parser.h"\n#include "analysis.h"\n',
        "declares lb_chat_keeps_parser",
    ),
)
"""For chat.wasm."""


def apply(llama_cpp: Path, edits: tuple[Edit, ...]) -> None:
    """Make the edits in an unpacked source.

    Raises:
        BuildError: a file or a text is missing, or the text occurs twice.
    """
    for edit in edits:
        path = llama_cpp / edit.file
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            raise BuildError(f"llama.cpp no longer has {edit.file}: see wasm/edits.py") from error
        if (found := text.count(edit.old)) != 1:
            raise BuildError(
                f"{edit.file} must contain this text of wasm/edits.py once, but has it {found} times "
                f"({edit.why}):\n{edit.old}"
            )
        path.write_bytes(text.replace(edit.old, edit.new).encode())
