// What llama.cpp's chat code expects around it, and what the shim sets and reads there.
#pragma once

#include <cstdint>
#include <string>

namespace lb_chat {

// Seconds: what the clock shows in this call.
extern int64_t now;

// What llama.cpp logged in this call.
extern std::string logged;

} // namespace lb_chat
