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
        "bool g_jinja_debug = false;\n",
        "bool g_jinja_debug = false;\nvoid lb_chat_step(size_t steps);\n",
        "declares it, for the next two",
    ),
    Edit(
        "common/jinja/runtime.cpp",
        "value statement::execute(context & ctx) const {\n    try {",
        "value statement::execute(context & ctx) const {\n    lb_chat_step(1);\n    try {",
        "a template ends: chat/bounds.cpp",
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
