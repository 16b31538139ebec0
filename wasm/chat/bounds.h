// What a template may use. Hosts that can bound time do so, too; a page cannot.
#pragma once

#include <cstddef>

namespace lb_chat {

// Thrown by whatever a template runs once it has used up its steps, or memory was refused.
extern bool exceeded;

// Before each call: steps grow with what the caller gave.
void allow(size_t argument_size);

} // namespace lb_chat
