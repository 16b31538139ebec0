// A lock in one word of memory, 0 when open; for malloc.c and threads.c.
#pragma once

void lb_lock(int * word);
void lb_unlock(int * word);
