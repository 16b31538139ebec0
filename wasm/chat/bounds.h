// What a template may use. Hosts that can bound time do so, too; a page cannot.
#pragma once

#include <cstddef>

namespace lb_chat {

// Set once something that a template runs has used up what it may, or was refused memory. It throws std::bad_alloc then.
extern bool exceeded;

// Counts from here on. The more the caller gave, the more is allowed.
void allow(size_t argument_size);

void end_counting();

} // namespace lb_chat
