// The C ABI of chat.wasm: llama.cpp's chat templates and parsers, for one template. JSON in, JSON out, UTF-8.
//
// The host writes an argument to what lb_chat_input gives, then calls with its size. The answer lies where the result
// points to: a uint32 size, then so many bytes. It is valid until the next call. The guest keeps the argument and the
// answer; there is nothing to free.
//
// An answer is what the function says below, or {"error": text, "kind": "template" | "bounds" | "argument"}. A trap ends the
// instance: take a new one.
//
// The module is a reactor and imports nothing: `_initialize` once, then any of these, one thread at a time. It has no
// clock. Times come with the arguments.
#pragma once

#include <stdint.h>

#define LB_CHAT_ABI_VERSION 1

#define LB_CHAT_EXPORT(name) extern "C" __attribute__((export_name(#name)))

extern "C" {

int32_t lb_chat_abi_version(void);

// Where the argument of the next call goes; NULL if there is no room for so much.
char * lb_chat_input(uint32_t size);

// {"template", "bos_token", "eos_token"}: the template of this instance, in place of the one before.
// Gives {"caps": {name: bool}}.
const void * lb_chat_open(uint32_t size);

// {"messages", "tools"?, "tool_choice"?, "parallel_tool_calls"?, "json_schema"?, "add_generation_prompt"?,
//  "enable_thinking"?, "kwargs"?, "now", "parse"}
// `now` counts seconds since 1970 on the clock that people there see; the zone is none. Without "parse": true there is
// only the prompt.
// Gives {"prompt", "generation_prompt", "grammar", "grammar_lazy", "triggers": [{"kind", "value"}], "stops", "tokens",
//  "thinking": [start, end...], "format", "parser": id}. A parser is kept until it is released, or 64 newer ones are.
const void * lb_chat_render(uint32_t size);

// {"parser": id, "text", "partial": bool}: reads more of an answer. `text` follows what this parser was given before.
// Gives {"content", "reasoning": [adds, text], "calls": [{"id", "name", "arguments": [adds, text]}]}: where `adds` is true,
// the text follows what was told before; otherwise it takes its place.
const void * lb_chat_parse(uint32_t size);

// Forgets a parser.
void lb_chat_release(int32_t parser);

}
