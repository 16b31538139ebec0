// POSIX threads as far as ggml and the C++ runtime use them: create, join, mutexes, condition variables.
//
// Each thread is an instance of the module of its own over the one memory, run by a thread of the host: see
// ../shim/lb.h, at its end. The C library's stand-ins for these functions know one thread only: the pthread_create that zig
// brings along (lib/libc/wasi/thread-stub) answers EAGAIN, whatever the flags. wasi-libc has a second build with threads, for
// the proposal wasi-threads; zig does not have its sources, browsers never had its imports, and wasmtime has them no more.
//
// After a trap the whole guest is lost, as a process would be. lb_kill then wakes whoever waits or spins, to trap, too:
// no thread of the host is left behind.
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "lock.h"

enum {
    MAX_THREADS = 512, // as many as ggml takes; the first slot is the main thread's
    STACK = 1 << 20,
    ALIGNMENT = 16,
    SPINS = 1 << 15, // some 50 µs
    LONG = 1000000000, // ns
};

// The first two are read by thread_start.c's assembly.
struct thread {
    uint32_t stack_top;
    uint32_t tls;
    void * (*function)(void *);
    void * argument;
    void * result;
    int slot;
    int done;
};

// As pthread.h lays a mutex out: its type comes first, and is set by the C library's pthread_mutex_init.
struct mutex {
    int type;
    int word;
    int owner; // slot + 1, of a recursive one
    int depth;
};

__attribute__((import_module("lb_host"), import_name("spawn"))) int lb_host_spawn(struct thread *);

static int dead;
static int is_taken[MAX_THREADS] = {1};
static int * waits_at[MAX_THREADS]; // the word that the thread of that slot sleeps on
static _Thread_local int own_slot;

static _Noreturn void end_here(void) {
    __builtin_trap();
}

static void check_alive(void) {
    if (__atomic_load_n(&dead, __ATOMIC_SEQ_CST)) {
        end_here();
    }
}

// Sleeps until somebody wakes `word`, unless it is not `expected` any more; false after `timeout` ns. Callers look again: a
// guest whose memory was overwritten may find nobody to wake, and its threads have to end all the same.
static int sleep_at(int * word, int expected, int64_t timeout) {
    __atomic_store_n(&waits_at[own_slot], word, __ATOMIC_SEQ_CST);
    check_alive(); // after the line above: who kills us later finds the word
    const int result = __builtin_wasm_memory_atomic_wait32(word, expected, timeout);
    __atomic_store_n(&waits_at[own_slot], NULL, __ATOMIC_SEQ_CST);
    check_alive();
    return result != 2;
}

static void wake(int * word, unsigned count) {
    __builtin_wasm_memory_atomic_notify(word, count);
}

// U. Drepper, "Futexes Are Tricky" (2011), section 6: 0 open, 1 locked, 2 locked and somebody may be waiting.
void lb_lock(int * word) {
    int seen = 0;
    if (__atomic_compare_exchange_n(word, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return;
    }
    if (seen != 2) {
        seen = __atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE);
    }
    while (seen != 0) {
        sleep_at(word, 2, LONG);
        seen = __atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE);
    }
}

void lb_unlock(int * word) {
    if (__atomic_exchange_n(word, 0, __ATOMIC_RELEASE) == 2) {
        wake(word, 1);
    }
}

// What a thread does between two looks at a word that another will change: see ../edits.py. Now and then it sleeps for
// the shortest time there is: where there are more threads than cores, the one that is waited for needs this core.
void ggml_thread_cpu_relax(void) {
    static _Thread_local unsigned spins;
    static int never_changes;
    check_alive();
    if (++spins % SPINS == 0) {
        __builtin_wasm_memory_atomic_wait32(&never_changes, 0, 1000);
    }
}

__attribute__((export_name("lb_kill"))) int lb_kill(void) {
    __atomic_store_n(&dead, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < MAX_THREADS; i++) {
        int * word = __atomic_load_n(&waits_at[i], __ATOMIC_SEQ_CST);
        if (word) {
            __atomic_fetch_add(word, 4, __ATOMIC_SEQ_CST); // it may be just about to go to sleep on what it saw
            wake(word, UINT32_MAX);
        }
    }
    return 0;
}

// --- threads

static int take_slot(void) {
    for (int i = 0; i < MAX_THREADS; i++) {
        int no = 0;
        if (__atomic_compare_exchange_n(&is_taken[i], &no, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
            return i;
        }
    }
    return -1;
}

int pthread_create(pthread_t * out, const pthread_attr_t * attributes, void * (*function)(void *), void * argument) {
    (void) attributes;
    const size_t tls = (__builtin_wasm_tls_size() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    // One block: the stack, which grows down, then the thread's own variables, then what describes it.
    char * block = __builtin_wasm_tls_align() <= ALIGNMENT ? aligned_alloc(ALIGNMENT, STACK + tls + sizeof(struct thread)) : NULL;
    const int slot = block ? take_slot() : -1;
    if (slot < 0) {
        free(block);
        return EAGAIN;
    }
    struct thread * t = (struct thread *) (block + STACK + tls);
    *t = (struct thread) {
        .stack_top = (uint32_t) (uintptr_t) (block + STACK),
        .tls = (uint32_t) (uintptr_t) (block + STACK),
        .function = function,
        .argument = argument,
        .slot = slot,
    };
    if (lb_host_spawn(t) < 0) {
        __atomic_store_n(&is_taken[slot], 0, __ATOMIC_SEQ_CST);
        free(block);
        return EAGAIN;
    }
    *out = (pthread_t) t;
    return 0;
}

// Where thread_start.c goes on, with a stack and thread-local variables of its own.
void lb_run_thread(struct thread * t) {
    own_slot = t->slot;
    t->result = t->function(t->argument);
    __atomic_store_n(&t->done, 1, __ATOMIC_SEQ_CST);
    wake(&t->done, 1); // the stack may be gone by now: nothing from here on needs it
}

int pthread_join(pthread_t thread, void ** result) {
    struct thread * t = (struct thread *) thread;
    while (!__atomic_load_n(&t->done, __ATOMIC_SEQ_CST)) {
        sleep_at(&t->done, 0, LONG);
    }
    if (result) {
        *result = t->result;
    }
    __atomic_store_n(&is_taken[t->slot], 0, __ATOMIC_SEQ_CST);
    free((char *) (uintptr_t) t->stack_top - STACK);
    return 0;
}

// --- mutexes

static int lock_mutex(struct mutex * m, int wait) {
    const int me = own_slot + 1;
    if (m->type == PTHREAD_MUTEX_RECURSIVE && __atomic_load_n(&m->owner, __ATOMIC_RELAXED) == me) {
        m->depth++;
        return 0;
    }
    if (wait) {
        lb_lock(&m->word);
    } else {
        int open = 0;
        if (!__atomic_compare_exchange_n(&m->word, &open, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
            return EBUSY;
        }
    }
    if (m->type == PTHREAD_MUTEX_RECURSIVE) {
        __atomic_store_n(&m->owner, me, __ATOMIC_RELAXED);
    }
    return 0;
}

int pthread_mutex_lock(pthread_mutex_t * mutex) {
    return lock_mutex((struct mutex *) mutex, 1);
}

int pthread_mutex_trylock(pthread_mutex_t * mutex) {
    return lock_mutex((struct mutex *) mutex, 0);
}

int pthread_mutex_unlock(pthread_mutex_t * mutex) {
    struct mutex * m = (struct mutex *) mutex;
    if (m->type == PTHREAD_MUTEX_RECURSIVE) {
        if (m->depth > 0) {
            m->depth--;
            return 0;
        }
        __atomic_store_n(&m->owner, 0, __ATOMIC_RELAXED);
    }
    lb_unlock(&m->word);
    return 0;
}

// --- condition variables: the third word counts the signals, the C library's pthread_cond_init uses the others

static int * signals_of(pthread_cond_t * condition) {
    return (int *) condition + 2;
}

int pthread_cond_wait(pthread_cond_t * condition, pthread_mutex_t * mutex) {
    int * signals = signals_of(condition);
    const int seen = __atomic_load_n(signals, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(mutex);
    sleep_at(signals, seen, LONG);
    pthread_mutex_lock(mutex);
    return 0;
}

static int signal(pthread_cond_t * condition, unsigned count) {
    __atomic_fetch_add(signals_of(condition), 1, __ATOMIC_SEQ_CST);
    wake(signals_of(condition), count);
    return 0;
}

int pthread_cond_signal(pthread_cond_t * condition) {
    return signal(condition, 1);
}

int pthread_cond_broadcast(pthread_cond_t * condition) {
    return signal(condition, UINT32_MAX);
}

// --- do they work here?

struct probe {
    int arrived, wanted;
};

static void * arrive(void * argument) {
    struct probe * p = argument;
    __atomic_fetch_add(&p->arrived, 1, __ATOMIC_SEQ_CST);
    wake(&p->arrived, UINT32_MAX);
    for (int n; (n = __atomic_load_n(&p->arrived, __ATOMIC_SEQ_CST)) < p->wanted;) {
        sleep_at(&p->arrived, n, LONG);
    }
    return NULL;
}

int lb_threads_proven = 1; // the most that lb_probe_threads saw; lb_load takes no more

// 1 if `n` threads, this one among them, run at the same time and see each other's memory; 0 if not within
// `milliseconds`: then some of them may still be on their way, and only lb_kill is left to call.
__attribute__((export_name("lb_probe_threads"))) int lb_probe_threads(int n, int milliseconds) {
    static struct probe p;
    static pthread_t threads[MAX_THREADS];
    if (n < 1 || n > MAX_THREADS) {
        return 0;
    }
    p = (struct probe) {.arrived = 1, .wanted = n};
    for (int i = 1; i < n; i++) {
        if (pthread_create(&threads[i], NULL, arrive, &p) != 0) {
            return 0;
        }
    }
    for (int seen; (seen = __atomic_load_n(&p.arrived, __ATOMIC_SEQ_CST)) < n;) {
        if (!sleep_at(&p.arrived, seen, (int64_t) milliseconds * 1000000)) {
            return 0;
        }
    }
    for (int i = 1; i < n; i++) {
        pthread_join(threads[i], NULL);
    }
    if (n > lb_threads_proven) {
        lb_threads_proven = n;
    }
    return 1;
}
