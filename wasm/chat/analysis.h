#pragma once

#include "chat-auto-parser.h"

// The analysis of the current template, made when it is first needed.
const autoparser::autoparser & lb_chat_analysis(const common_chat_template & tmpl);

// What this template made of this input last, or NULL. Only what is rendered in one call counts.
const std::string * lb_chat_rendered(const common_chat_template & tmpl, const common_json & input, bool marks);
void lb_chat_keep_rendered(const common_chat_template & tmpl, common_json && input, bool marks, const std::string & text);
void lb_chat_forget_rendered();

// What begins an answer, if it is known from a chat that ends alike and the prompt rendered last ends with it; or NULL.
const std::string * lb_chat_generation_prompt(const common_chat_template & tmpl, const autoparser::generation_params & inputs);
std::string lb_chat_keep_generation_prompt(const autoparser::generation_params & inputs, std::string && text);

// Whether the parser of the answer is wanted, too.
extern bool lb_chat_keeps_parser;

// Before that template goes.
void lb_chat_forget_analysis();
