// LoRA adapters: loaded beside the model, and put in force in the contexts that compute.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "state.h"

using lb::current;
using lb::fail;

namespace {

int32_t load(const char * path) {
    if (current.adapters.size() >= LB_ADAPTERS) {
        return fail(LB_BAD_ARGUMENT, "there are " + std::to_string(LB_ADAPTERS) + " adapters already");
    }
    lb::listen();
    std::unique_ptr<llama_adapter_lora, lb::free_adapter> adapter(llama_adapter_lora_init(current.model.get(), path));
    if (!adapter) {
        const std::string reason = lb::logged_errors();
        return fail(lb::status_of_failure(), reason.empty() ? "llama.cpp gave no reason" : reason);
    }
    const int32_t number = current.next_adapter++;
    current.adapters.emplace(number, std::move(adapter));
    return number;
}

bool is_in_force(const llama_adapter_lora * adapter) {
    const auto & in_force = current.adapters_in_force;
    return std::find(in_force.begin(), in_force.end(), adapter) != in_force.end();
}

int32_t put_in_force(const int32_t * numbers, const float * scales, int32_t n) {
    std::vector<llama_adapter_lora *> wanted;
    for (int32_t i = 0; i < n; i++) {
        const auto found = current.adapters.find(numbers[i]);
        if (found == current.adapters.end()) {
            return fail(LB_BAD_ARGUMENT, "no such adapter: " + std::to_string(numbers[i]));
        }
        llama_adapter_lora * adapter = found->second.get();
        // llama.cpp would take only the first of two that are the same.
        if (std::find(wanted.begin(), wanted.end(), adapter) != wanted.end() || !std::isfinite(scales[i])) {
            return fail(LB_BAD_ARGUMENT, "each adapter must come once, with a finite scale");
        }
        wanted.push_back(adapter);
    }
    current.adapters_in_force = std::move(wanted);
    current.adapter_scales.assign(scales, scales + n);
    current.forget_logits();
    current.embedder.reset(); // the next one is made with these
    lb::apply_adapters(current.context.get());
    return LB_OK;
}

} // namespace

namespace lb {

void apply_adapters(llama_context * context) {
    auto & in_force = current.adapters_in_force;
    llama_set_adapters_lora(context, in_force.data(), in_force.size(), current.adapter_scales.data());
}

} // namespace lb

int32_t lb_adapter_load(const char * path) {
    return lb::with_model([&] { return path != nullptr ? load(path) : fail(LB_BAD_ARGUMENT, "path must not be null"); });
}

int32_t lb_adapter_free(int32_t number) {
    return lb::with_model([&]() -> int32_t {
        const auto found = current.adapters.find(number);
        if (found == current.adapters.end()) {
            return fail(LB_BAD_ARGUMENT, "no such adapter: " + std::to_string(number));
        }
        if (is_in_force(found->second.get())) {
            return fail(LB_BAD_ARGUMENT, "the adapter is in force");
        }
        current.adapters.erase(found);
        return LB_OK;
    });
}

int32_t lb_adapters(const int32_t * numbers, const float * scales, int32_t n) {
    return lb::with_model([&] {
        if (n < 0 || n > LB_ADAPTERS || (n > 0 && (numbers == nullptr || scales == nullptr))) {
            return fail(LB_BAD_ARGUMENT, "numbers, scales and n do not fit together");
        }
        return put_in_force(numbers, scales, n);
    });
}
