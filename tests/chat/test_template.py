"""Chat templates as model makers write them: rendered, appended to, and never trusted."""

from __future__ import annotations

import pytest

from llama_bridge import Message, Piece, TemplateError
from llama_bridge.chat.template import ChatTemplate

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
    return Message(role="user", content=text)


def assistant(text: str) -> Message:
    return Message(role="assistant", content=text)


@pytest.mark.parametrize("source", [CHATML, LLAMA2, STRICT])
def test_an_appended_turn_completes_the_whole_rendering(source: str) -> None:
    template = ChatTemplate(source, bos="<s>", eos="</s>")
    messages = [user("one"), assistant("two"), user("three")]
    _, rendered = template.next_turn(messages)
    tail = str(rendered.whole)
    whole = template.render(messages)
    assert whole.endswith(tail)
    assert whole[: -len(tail)].endswith("two")


def test_what_stands_between_answer_and_question_is_told_apart() -> None:
    messages = [user("a"), assistant("b"), user("c<|im_end|>")]
    between, rendered = ChatTemplate(CHATML).next_turn(messages)
    assert str(between) == "<|im_end|>\n<|im_start|>user\n"
    assert Piece("c<|im_end|>") in rendered.apart.pieces
    assert str(rendered.whole).endswith("c<|im_end|><|im_end|>\n<|im_start|>assistant\n")
    assert str(rendered.apart) == str(rendered.whole)


def test_an_appended_turn_is_trimmed_as_the_template_trims() -> None:
    _, rendered = ChatTemplate(LLAMA2).next_turn([user("a"), assistant("b"), user("  c \n")])
    assert str(rendered.whole).endswith("[INST] c [/INST]")


def test_tags_for_trainers_are_passed_through() -> None:
    source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    assert ChatTemplate(source).render([user("x")]) == "x"


def test_a_template_that_drops_messages_cannot_be_appended_to() -> None:
    with pytest.raises(TemplateError, match="cannot append"):
        ChatTemplate(FORGETFUL).next_turn([user("a"), assistant("b"), user("c")])


@pytest.mark.parametrize(
    "source",
    [
        CHATML,
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
        "{% for m in messages | reverse %}{{ m.content }}|{% endfor %}",
        "{{ messages[-1].content }}",
    ],
)
def test_what_people_said_is_told_apart_wherever_it_stands(source: str) -> None:
    messages = [user("x1"), assistant("y2")]
    rendered = ChatTemplate(source).rendered(messages)
    said = [piece.text for piece in rendered.apart.pieces if not piece.control]
    assert {*said} <= {"x1", "y2"}
    whole = str(rendered.whole)
    assert len(said) == whole.count("x1") + whole.count("y2")
    assert str(rendered.apart) == whole == ChatTemplate(source).render(messages)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{% for m in messages %}", "failed"),
        ("{{ nothing.there }}", "failed"),
        ("{{ raise_exception('only users here') }}", "only users here"),
        ("{{ messages.append(1) }}", "failed"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "failed"),
        ("{{ range(10**9) | list }}", "failed"),
    ],
)
def test_a_broken_or_hostile_template_is_a_typed_error(source: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        ChatTemplate(source).render([user("x")])


def test_helpers_that_templates_expect_are_there() -> None:
    source = "{{ strftime_now('%Y') | length }}{{ {'ä': '<'} | tojson }}{% for i in [1,2] %}{% break %}{% endfor %}"
    assert ChatTemplate(source).render([user("x")]) == '4{"ä": "<"}'
