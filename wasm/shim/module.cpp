// Memory, errors and the log.
#include <cstdlib>
#include <unistd.h>

#include "state.h"
#include "weights.h"

namespace lb {

state current;
volatile int32_t cancel_flag = 0;

namespace {

std::string last_error;
std::string logged;
std::string line; // llama.cpp may log one line in several calls
ggml_log_level line_level = GGML_LOG_LEVEL_INFO;
int32_t minimum_level = GGML_LOG_LEVEL_INFO;

void write_line() {
    if (line_level >= GGML_LOG_LEVEL_ERROR) {
        logged += (logged.empty() ? "" : "; ") + line;
    }
    if (line_level >= minimum_level && !line.empty()) {
        const std::string out = std::to_string(static_cast<int>(line_level)) + ' ' + line + '\n';
        // One write is one message to the host. What could be done if it failed?
        [[maybe_unused]] const auto written = write(STDERR_FILENO, out.data(), out.size());
    }
    line.clear();
}

void log(ggml_log_level level, const char * text, void *) {
    if (level != GGML_LOG_LEVEL_CONT && level != GGML_LOG_LEVEL_NONE) {
        if (!line.empty()) {
            write_line();
        }
        line_level = level;
    }
    for (; *text != '\0'; ++text) {
        if (*text == '\n') {
            write_line();
        } else {
            line += *text;
        }
    }
}

// Runs at `_initialize`, before the host can call anything.
[[gnu::constructor]] void start() {
    llama_log_set(log, nullptr);
    llama_backend_init();
}

} // namespace

int32_t fail(lb_status status, const std::string & message) {
    last_error = message;
    return status;
}

lb_status status_of_failure() {
    return lb_refused ? LB_OUT_OF_MEMORY : LB_ENGINE_ERROR;
}

void listen() {
    lb_refused = 0;
    logged.clear();
}

const std::string & logged_errors() {
    return logged;
}

} // namespace lb

int32_t lb_abi_version(void) {
    return LB_ABI_VERSION;
}

void * lb_alloc(uint32_t n_bytes) {
    return std::malloc(n_bytes);
}

void lb_free(void * p) {
    std::free(p);
}

const char * lb_last_error(void) {
    return lb::last_error.c_str();
}

void lb_set_log_level(int32_t level) {
    lb::minimum_level = level;
}

int32_t lb_byte_sums(int32_t form) {
    return lb::multiply_bytes_by(form);
}

int32_t * lb_refused_flag(void) {
    return &lb_refused;
}

volatile int32_t * lb_cancel_flag(void) {
    return &lb::cancel_flag;
}
