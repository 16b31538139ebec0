// malloc for a module that holds one very large block and many small ones.
//
// zig's own malloc for WebAssembly rounds every block up to a power of two: the weights of a 265 MB model took
// 512 MB, and a 2.2 GB model could not be loaded into 4 GiB at all. This one is a two-level segregated fit
// (M. Masmano et al., "TLSF: a New Dynamic Memory Allocator for Real-Time Systems", 2004) over one region from
// the end of the data to the end of memory: neighbours join when freed, and memory grows by what is missing.
//
// One lock for all: threads allocate rarely, ggml's workers never.
//
// Why not the C library's: wasi-libc's own is dlmalloc, but zig does not bring that along; it has an allocator of its
// own instead (lib/c/malloc.zig in ziglang 0.17.1), made for one thread. Measured with it in this file's place: a model
// of 335 MiB takes 684 MiB of guest memory (435 with this file), one of 506 MiB takes 683 (606), the demo model 50 (44);
// four threads that allocate at once overwrite each other's blocks (lb_check's MALLOC: 17,846 of 200,000); loading and
// answering take as long with either. The module is 3.33 MB with both. dlmalloc would be 6,000 lines from elsewhere, in
// place of these 350, and would still need a lock that works with threads.c.
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lock.h"

enum {
    GRANULE = 16,      // of addresses and sizes
    HEADER = 8,        // before each payload
    USED = 1,          // in `size`
    SUBCLASSES = 16,   // bins per power of two
    LINEAR_LIMIT = 256, // below, one bin per granule
    CLASSES = 25,      // one linear, then 2^8 to 2^31
    PAGE = 65536,
    MAX_PAGES = 65535, // not the very last: its end has no address
};

// A chunk starts HEADER bytes before a multiple of GRANULE. Only a free one has links.
struct chunk {
    uint32_t previous_size; // of the chunk before this one; 0: this is the first
    uint32_t size;          // header included, a multiple of GRANULE; the lowest bit says USED
    struct chunk *next, *previous;
};

extern unsigned char __heap_base;

static struct chunk * bins[CLASSES][SUBCLASSES];
static uint32_t class_map;
static uint16_t subclass_map[CLASSES];
static struct chunk * end; // a header without payload that closes the region; NULL before the first use
static int lock;           // for all of the above

int lb_refused; // set when there was no room for a block; whoever wants to know clears it before

static void * refuse(void) {
    lb_refused = 1;
    errno = ENOMEM;
    return NULL;
}

static uint32_t size_of(const struct chunk * c) {
    return c->size & ~(uint32_t) USED;
}
static int is_used(const struct chunk * c) {
    return c->size & USED;
}
static struct chunk * after(const struct chunk * c) {
    return (struct chunk *) ((char *) c + size_of(c));
}
static struct chunk * before(const struct chunk * c) {
    return c->previous_size ? (struct chunk *) ((char *) c - c->previous_size) : NULL;
}
static void * payload(struct chunk * c) {
    return (char *) c + HEADER;
}
static struct chunk * chunk_of(void * p) {
    return (struct chunk *) ((char *) p - HEADER);
}

static void locate(uint32_t size, int * class, int * subclass) {
    if (size < LINEAR_LIMIT) {
        *class = 0;
        *subclass = (int) (size / GRANULE);
    } else {
        const int log2 = 31 - __builtin_clz(size);
        *class = log2 - 7;
        *subclass = (int) ((size >> (log2 - 4)) & (SUBCLASSES - 1));
    }
}

static void set_size(struct chunk * c, uint32_t size, int used) {
    c->size = size | (uint32_t) used;
    after(c)->previous_size = size;
}

static void link_free(struct chunk * c) {
    int i, j;
    locate(size_of(c), &i, &j);
    c->previous = NULL;
    c->next = bins[i][j];
    if (c->next) {
        c->next->previous = c;
    }
    bins[i][j] = c;
    class_map |= 1u << i;
    subclass_map[i] |= (uint16_t) (1u << j);
}

static void unlink_free(struct chunk * c) {
    int i, j;
    locate(size_of(c), &i, &j);
    if (c->next) {
        c->next->previous = c->previous;
    }
    if (c->previous) {
        c->previous->next = c->next;
    } else {
        bins[i][j] = c->next;
        if (!c->next && !(subclass_map[i] &= (uint16_t) ~(1u << j))) {
            class_map &= ~(1u << i);
        }
    }
}

// Makes [c, c + size) free, joined with free neighbours.
static void release(struct chunk * c, uint32_t size) {
    struct chunk * neighbour = before(c);
    if (neighbour && !is_used(neighbour)) {
        unlink_free(neighbour);
        size += size_of(neighbour);
        c = neighbour;
    }
    neighbour = (struct chunk *) ((char *) c + size);
    if (neighbour != end && !is_used(neighbour)) {
        unlink_free(neighbour);
        size += size_of(neighbour);
    }
    set_size(c, size, 0);
    link_free(c);
}

// Grows memory so that a free chunk of `size` ends the region; false if there is no more.
static int grow(uint32_t size) {
    uint32_t pages = (uint32_t) __builtin_wasm_memory_size(0);
    if (!end) {
        const uint32_t base = (uint32_t) (uintptr_t) &__heap_base;
        const uint32_t start = (base + HEADER + GRANULE - 1) / GRANULE * GRANULE - HEADER;
        if (start + 2 * GRANULE > pages * PAGE) {
            if (__builtin_wasm_memory_grow(0, 1) == (size_t) -1) {
                return 0;
            }
            pages += 1;
        }
        struct chunk * first = (struct chunk *) (uintptr_t) start;
        end = (struct chunk *) (uintptr_t) (pages * PAGE - HEADER);
        end->size = USED;
        first->previous_size = 0;
        release(first, (uint32_t) ((char *) end - (char *) first));
    }
    const struct chunk * last = before(end);
    const uint32_t have = last && !is_used(last) ? size_of(last) : 0;
    if (have >= size) {
        return 1;
    }
    const uint32_t missing = (size - have + PAGE - 1) / PAGE;
    if (missing > MAX_PAGES - pages) {
        return 0;
    }
    const size_t grown = __builtin_wasm_memory_grow(0, missing);
    if (grown == (size_t) -1) {
        return 0;
    }
    if (grown * PAGE != (uintptr_t) end + HEADER) {
        __builtin_trap(); // somebody else grew memory, too
    }
    struct chunk * fresh = end;
    end = (struct chunk *) ((char *) end + missing * PAGE);
    end->size = USED;
    release(fresh, missing * PAGE);
    return 1;
}

// A free chunk of at least `size`, or NULL.
static struct chunk * find(uint32_t size) {
    int i, j;
    locate(size, &i, &j);
    for (struct chunk * c = bins[i][j]; c; c = c->next) {
        if (size_of(c) >= size) {
            return c;
        }
    }
    const uint32_t subclasses = subclass_map[i] & (uint32_t) ~((2u << j) - 1);
    if (subclasses) {
        return bins[i][__builtin_ctz(subclasses)];
    }
    const uint32_t classes = class_map & ~((2u << i) - 1);
    if (!classes) {
        return NULL;
    }
    i = __builtin_ctz(classes);
    return bins[i][__builtin_ctz(subclass_map[i])];
}

// Gives back what a used chunk has beyond `size`.
static void trim(struct chunk * c, uint32_t size) {
    const uint32_t rest = size_of(c) - size;
    if (rest >= GRANULE) {
        set_size(c, size, USED);
        struct chunk * tail = after(c);
        tail->previous_size = size;
        tail->size = rest | USED;
        release(tail, rest);
    }
}

// The chunk size for a payload, or 0 if there can be none.
static uint32_t chunk_size(size_t n) {
    if (n > UINT32_MAX - 2 * PAGE) {
        return 0;
    }
    return n <= HEADER ? GRANULE : ((uint32_t) n + HEADER + GRANULE - 1) / GRANULE * GRANULE;
}

static struct chunk * take(uint32_t size) {
    struct chunk * c = size ? find(size) : NULL;
    if (!c && size && grow(size)) {
        c = find(size);
    }
    if (!c) {
        return refuse();
    }
    unlink_free(c);
    set_size(c, size_of(c), USED);
    return c;
}

static void * allocate(size_t n) {
    const uint32_t size = chunk_size(n);
    struct chunk * c = take(size);
    if (!c) {
        return NULL;
    }
    trim(c, size);
    return payload(c);
}

static void give_back(void * p) {
    struct chunk * c = chunk_of(p);
    release(c, size_of(c));
}

// Whether the block has `n` bytes now, where it is.
static int resize(void * p, size_t n) {
    struct chunk * c = chunk_of(p);
    const uint32_t size = chunk_size(n);
    struct chunk * next = after(c);
    if (size > size_of(c) && next != end && !is_used(next) && size_of(c) + size_of(next) >= size) {
        unlink_free(next);
        set_size(c, size_of(c) + size_of(next), USED);
    }
    if (!size || size > size_of(c)) {
        return 0;
    }
    trim(c, size);
    return 1;
}

static void * allocate_aligned(size_t alignment, size_t n) {
    const uint32_t size = chunk_size(n);
    if (alignment & (alignment - 1)) {
        errno = EINVAL;
        return NULL;
    }
    if (!size || alignment > UINT32_MAX - 2 * PAGE - size) {
        return refuse();
    }
    struct chunk * c = take(size + (uint32_t) alignment);
    if (!c) {
        return NULL;
    }
    const uintptr_t aligned = ((uintptr_t) payload(c) + alignment - 1) & ~(uintptr_t) (alignment - 1);
    const uint32_t gap = (uint32_t) (aligned - (uintptr_t) payload(c));
    if (gap) {
        const uint32_t whole = size_of(c);
        struct chunk * kept = (struct chunk *) ((char *) c + gap);
        kept->previous_size = gap;
        set_size(kept, whole - gap, USED);
        release(c, gap);
        c = kept;
    }
    trim(c, size);
    return payload(c);
}

void * malloc(size_t n) {
    lb_lock(&lock);
    void * p = allocate(n);
    lb_unlock(&lock);
    return p;
}

void free(void * p) {
    if (p) {
        lb_lock(&lock);
        give_back(p);
        lb_unlock(&lock);
    }
}

void * calloc(size_t count, size_t each) {
    size_t n;
    if (__builtin_mul_overflow(count, each, &n)) {
        return refuse();
    }
    void * p = malloc(n);
    return p ? memset(p, 0, n) : NULL;
}

size_t malloc_usable_size(void * p) {
    return p ? size_of(chunk_of(p)) - HEADER : 0;
}

void * realloc(void * p, size_t n) {
    if (!p) {
        return malloc(n);
    }
    lb_lock(&lock);
    void * result = p;
    if (!resize(p, n)) {
        result = allocate(n);
        if (result) {
            memcpy(result, p, malloc_usable_size(p));
            give_back(p);
        }
    }
    lb_unlock(&lock);
    return result;
}

void * reallocarray(void * p, size_t count, size_t each) {
    size_t n;
    if (__builtin_mul_overflow(count, each, &n)) {
        return refuse();
    }
    return realloc(p, n);
}

void * memalign(size_t alignment, size_t n) {
    if (alignment <= GRANULE) {
        return malloc(n);
    }
    lb_lock(&lock);
    void * p = allocate_aligned(alignment, n);
    lb_unlock(&lock);
    return p;
}

void * aligned_alloc(size_t alignment, size_t n) {
    return memalign(alignment, n);
}

void * valloc(size_t n) {
    return memalign(PAGE, n);
}

int posix_memalign(void ** out, size_t alignment, size_t n) {
    if (alignment < sizeof(void *) || (alignment & (alignment - 1))) {
        return EINVAL;
    }
    const int saved = errno;
    void * p = memalign(alignment, n);
    errno = saved;
    if (!p) {
        return ENOMEM;
    }
    *out = p;
    return 0;
}
