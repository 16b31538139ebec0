"""Families of models: their templates, what they write when they call a tool, and what that means."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["FAMILIES", "TOOLS", "Family"]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "special_function",
            "description": "I'm special",
            "parameters": {
                "type": "object",
                "properties": {"arg1": {"type": "integer", "description": "The arg."}},
                "required": ["arg1"],
            },
        },
    }
]
_JSON = '{"name": "special_function", "arguments": {"arg1": 1}}'
_DEEPSEEK = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
_OWN = '{"tool_calls": [{"name": "special_function", "arguments": {"arg1": 1}}]}'


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        template: name of its template.
        says: what a model of it writes to call the tool with 1.
        reasoning: what it thinks before that.
        form: whose form of tools that is.
        end: the token that ends its answers.
        plain: an answer in words, where it needs more than the words.
        settings: what the call needs besides.
    """

    template: str
    says: str
    reasoning: str = ""
    form: str = "template"
    end: str = "<|im_end|>"
    plain: str = "Hello, world!"
    settings: dict[str, bool] = field(default_factory=dict)


FAMILIES = {
    "Llama 3.1": Family(
        "meta-llama-Llama-3.1-8B-Instruct",
        '{"name": "special_function", "parameters": {"arg1": 1}}',
        end="<|eot_id|>",
    ),
    "Llama 3.2": Family(
        "meta-llama-Llama-3.2-3B-Instruct",
        '{"name": "special_function", "parameters": {"arg1": 1}}',
        end="<|eot_id|>",
    ),
    "Llama 3.3": Family(
        "meta-llama-Llama-3.3-70B-Instruct",
        '{"name": "special_function", "parameters": {"arg1": 1}}',
        end="<|eot_id|>",
    ),
    "Qwen 2.5": Family("Qwen-Qwen2.5-7B-Instruct", f"<tool_call>\n{_JSON}\n</tool_call>"),
    "Qwen 3": Family(
        "Qwen-Qwen3-0.6B", f"<think>\nhm\n</think>\n\n<tool_call>\n{_JSON}\n</tool_call>", "hm"
    ),
    "Qwen 3 Coder": Family(
        "Qwen3-Coder",
        "<tool_call>\n<function=special_function>\n<parameter=arg1>\n1\n</parameter>\n</function>\n</tool_call>",
    ),
    "Hermes 2": Family(
        "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", f"<tool_call>\n{_JSON}\n</tool_call>"
    ),
    "Hermes 3": Family(
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use", f"<tool_call>\n{_JSON}\n</tool_call>"
    ),
    "Mistral Nemo": Family(
        "mistralai-Mistral-Nemo-Instruct-2407",
        '[TOOL_CALLS][{"name": "special_function", "arguments": {"arg1": 1}, "id": "123456789"}]',
        end="</s>",
    ),
    "Devstral": Family(
        "unsloth-mistral-Devstral-Small-2507",
        '[TOOL_CALLS]special_function[ARGS]{"arg1": 1}',
        end="</s>",
    ),
    "gpt-oss": Family(
        "openai-gpt-oss-120b",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary"
        ' to=functions.special_function <|constrain|>json<|message|>{"arg1": 1}',
        "hm",
        end="<|call|>",
        plain="<|channel|>final<|message|>Hello, world!",
    ),
    "DeepSeek R1": Family(
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        f"hm\n</think>\n\n{_OWN}",
        "hm\n",
        form="own",
        end="<｜end▁of▁sentence｜>",
        plain="hm\n</think>\n\nHello, world!",
    ),
    "DeepSeek V3.1": Family(
        "deepseek-ai-DeepSeek-V3.1",
        f"hm</think>{_OWN}",
        "hm",
        form="own",
        end="<｜end▁of▁sentence｜>",
        plain="hm</think>Hello, world!",
    ),
    "Gemma 2": Family("google-gemma-2-2b-it", _OWN, form="own", end="<end_of_turn>"),
    "Gemma 4": Family(
        "google-gemma-4-31B-it",
        "<|tool_call>call:special_function{arg1:1}<tool_call|>",
        end="<turn|>",
    ),
    "Phi 3.5": Family("microsoft-Phi-3.5-mini-instruct", _OWN, form="own", end="<|end|>"),
    "Granite 3.3": Family(
        "ibm-granite-granite-3.3-2B-Instruct", _OWN, form="own", end="<|end_of_text|>"
    ),
    "Granite 4": Family(
        "ibm-granite-granite-4.0", f"<tool_call>\n{_JSON}\n</tool_call>", end="<|end_of_text|>"
    ),
    "Command R7B": Family(
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
        "<|START_THINKING|>hm<|END_THINKING|><|START_ACTION|>[\n"
        '    {"tool_call_id": "0", "tool_name": "special_function", "parameters": {"arg1": 1}}\n'
        "]<|END_ACTION|>",
        "hm",
        end="<|END_OF_TURN_TOKEN|>",
        plain="<|START_RESPONSE|>Hello, world!<|END_RESPONSE|>",
    ),
    "LFM2": Family("LFM2-8B-A1B", "<|tool_call_start|>[special_function(arg1=1)]<|tool_call_end|>"),
    "GLM 4.6": Family(
        "GLM-4.6",
        "<think>hm</think>\n<tool_call>special_function\n<arg_key>arg1</arg_key>\n<arg_value>1</arg_value>\n</tool_call>",
        "hm",
        end="<|user|>",
    ),
}
