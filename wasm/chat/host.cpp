// What llama.cpp's chat code refers to outside its own files. Left out are common.cpp, which does not compile for WASI,
// log.cpp, which starts a thread, and libllama, which is only reached with a model.
#include "host.h"

#include <cstdarg>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "common.h"
#include "llama.h"
#include "log.h"

// --- the text functions of common.h that the chat code uses

void string_replace_all(std::string & text, const std::string & old, const std::string & with) {
    if (old.empty()) {
        return;
    }
    std::string made;
    size_t done = 0;
    for (size_t at; (at = text.find(old, done)) != std::string::npos; done = at + old.size()) {
        made.append(text, done, at - done).append(with);
    }
    text = made.append(text, done);
}

std::string string_join(const std::vector<std::string> & parts, const std::string & between) {
    std::string made;
    for (const auto & part : parts) {
        if (&part != &parts.front()) {
            made += between;
        }
        made += part;
    }
    return made;
}

std::vector<std::string> string_split(const std::string & text, const std::string & between) {
    std::vector<std::string> parts;
    size_t done = 0;
    for (size_t at; (at = text.find(between, done)) != std::string::npos; done = at + between.size()) {
        parts.push_back(text.substr(done, at - done));
    }
    parts.push_back(text.substr(done));
    return parts;
}

std::string string_repeat(const std::string & text, size_t times) {
    std::string made;
    made.reserve(text.size() * times);
    while (times-- > 0) {
        made += text;
    }
    return made;
}

// --- log.h

namespace lb_chat {

int64_t now = 0;
std::string logged;

} // namespace lb_chat

struct common_log {};

common_log * common_log_main() {
    static common_log only;
    return &only;
}

int common_log_get_verbosity_thold() {
    return LOG_LEVEL_WARN;
}

void common_log_add(common_log *, ggml_log_level, const char * format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (lb_chat::logged.size() < 16 * sizeof line) {
        lb_chat::logged += line;
    }
}

// --- ggml.h and llama.h: reached with a model, or where llama.cpp gives up

extern "C" {

void ggml_abort(const char * file, int line, const char * format, ...) {
    throw std::runtime_error(std::string(format) + " at " + file + ':' + std::to_string(line));
}

const char * llama_model_chat_template(const llama_model *, const char *) { return nullptr; }
const llama_vocab * llama_model_get_vocab(const llama_model *) { return nullptr; }
llama_token llama_vocab_bos(const llama_vocab *) { return LLAMA_TOKEN_NULL; }
llama_token llama_vocab_eos(const llama_vocab *) { return LLAMA_TOKEN_NULL; }
bool llama_vocab_get_add_bos(const llama_vocab *) { return false; }
bool llama_vocab_get_add_eos(const llama_vocab *) { return false; }
int32_t llama_chat_apply_template(const char *, const llama_chat_message *, size_t, bool, char *, int32_t) { return -1; }

// --- malloc.c: one thread only

void lb_lock(int *) {}
void lb_unlock(int *) {}

// --- the C library's way out: defined here, so that the module imports nothing

constexpr int32_t NO_SUCH_FILE = 8;

#define WASI(name) __imported_wasi_snapshot_preview1_##name

// Jinja asks for the time in each scope of a template.
int32_t WASI(clock_time_get)(int32_t, int64_t, int32_t out) {
    *reinterpret_cast<uint64_t *>(out) = uint64_t(lb_chat::now) * 1'000'000'000U;
    return 0;
}

int32_t WASI(environ_sizes_get)(int32_t count, int32_t size) {
    *reinterpret_cast<uint32_t *>(count) = *reinterpret_cast<uint32_t *>(size) = 0;
    return 0;
}

int32_t WASI(environ_get)(int32_t, int32_t) { return 0; }
int32_t WASI(fd_close)(int32_t) { return NO_SUCH_FILE; }
int close(int) { return -1; } // in zig's C library it imports fd_close by itself
int32_t WASI(fd_fdstat_get)(int32_t, int32_t) { return NO_SUCH_FILE; }
int32_t WASI(fd_read)(int32_t, int32_t, int32_t, int32_t) { return NO_SUCH_FILE; }
int32_t WASI(fd_seek)(int32_t, int64_t, int32_t, int32_t) { return NO_SUCH_FILE; }
int32_t WASI(fd_write)(int32_t, int32_t, int32_t, int32_t) { return NO_SUCH_FILE; }
[[noreturn]] void WASI(proc_exit)(int32_t) { __builtin_trap(); }

}

std::string common_token_to_piece(const llama_vocab *, llama_token, bool) {
    throw std::runtime_error("there is no vocabulary here");
}
