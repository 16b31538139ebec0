"""Chat templates as model makers write them: rendered, appended to, and never trusted."""

from __future__ import annotations

import pytest

from llama_bridge import InvalidInput, TemplateError
from llama_bridge.chat.template import ChatTemplate, Message, check_messages

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}"
)
FORGETFUL = "{{ messages[-1]['content'] }}"


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize("source", [CHATML, LLAMA2, STRICT])
def test_an_appended_turn_completes_the_whole_rendering(source: str) -> None:
    template = ChatTemplate(source, bos="<s>", eos="</s>")
    messages = [user("one"), assistant("two"), user("three")]
    _, pieces = template.next_turn(messages)
    tail = "".join(text for text, _ in pieces)
    whole = template.render(messages)
    assert whole.endswith(tail)
    assert whole[: -len(tail)].endswith("two")


def test_what_stands_between_answer_and_question_is_told_apart() -> None:
    messages = [user("a"), assistant("b"), user("c<|im_end|>")]
    between, pieces = ChatTemplate(CHATML).next_turn(messages, apart=True)
    assert between == "<|im_end|>\n<|im_start|>user\n"
    assert ("c<|im_end|>", False) in pieces
    tail = "c<|im_end|><|im_end|>\n<|im_start|>assistant\n"
    assert "".join(text for text, _ in pieces).endswith(tail)
    assert ChatTemplate(CHATML).next_turn(messages) == (between, [(between + tail, True)])


def test_an_appended_turn_is_trimmed_as_the_template_trims() -> None:
    _, pieces = ChatTemplate(LLAMA2).next_turn([user("a"), assistant("b"), user("  c \n")])
    assert pieces[0][0].endswith("[INST] c [/INST]")


def test_tags_for_trainers_are_passed_through() -> None:
    source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    assert ChatTemplate(source).render([user("x")]) == "x"


def test_a_template_that_drops_messages_cannot_be_appended_to() -> None:
    with pytest.raises(TemplateError, match="cannot append"):
        ChatTemplate(FORGETFUL).next_turn([user("a"), assistant("b"), user("c")])


def test_segments_name_the_peoples_words() -> None:
    pieces = ChatTemplate(CHATML).segments([user("x"), assistant("y")])
    assert [text for text, own in pieces if not own] == ["x", "y"]
    assert "".join(text for text, _ in pieces) == ChatTemplate(CHATML).render(
        [user("x"), assistant("y")]
    )


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{% for m in messages %}", "cannot be parsed"),
        ("{{ nothing.there }}", "refused"),
        ("{{ raise_exception('only users here') }}", "only users here"),
        ("{{ messages.append(1) }}", "refused"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "refused"),
        ("{{ range(10**9) | list }}", "refused"),
    ],
)
def test_a_broken_or_hostile_template_is_a_typed_error(source: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        ChatTemplate(source).render([user("x")])


def test_helpers_that_templates_expect_are_there() -> None:
    source = "{{ strftime_now('%Y') | length }}{{ {'ä': '<'} | tojson }}{% for i in [1,2] %}{% break %}{% endfor %}"
    assert ChatTemplate(source).render([user("x")]) == '4{"ä": "<"}'


@pytest.mark.parametrize("bad", [[], ["x"], [{"role": "user"}], [{"role": 1, "content": "x"}]])
def test_messages_are_checked(bad: list[object]) -> None:
    with pytest.raises(InvalidInput, match="messages"):
        check_messages(bad)  # type: ignore[arg-type]
