"""What people say never becomes a control token, whichever way it comes in; what a program marks as such does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llama_bridge import InvalidInput, LlamaBridge, Piece, Prompt
from llama_bridge.chat.template import ChatTemplate
from llama_bridge.testing import FakeLlama
from tests.ledger import GREEDY, engine_of, machine

pytestmark = pytest.mark.filterwarnings("ignore::llama_bridge.FallbackWarning")


def spelled(llama: LlamaBridge) -> str:
    """All control tokens of the vocabulary, as text."""
    engine = engine_of(llama)
    texts = {
        engine.token_bytes(token, special=True).decode("utf-8", "replace")
        for token in range(engine.info.n_vocab)
        if not engine.token_bytes(token)
    }
    return " ".join(sorted(texts - {""}))


def controls(llama: LlamaBridge, tokens: Sequence[int]) -> list[int]:
    """The control tokens of a ledger, but for those behind the prompt."""
    return [token for token in tokens if not engine_of(llama).token_bytes(token)]


def user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def with_system(llama: LlamaBridge, text: str) -> None:
    llama.system = text
    try:
        llama.generate("x", sampling=GREEDY)
    finally:
        llama.system = None


def second_turn(llama: LlamaBridge, text: str) -> None:
    llama.generate("x", sampling=GREEDY, max_tokens=1)
    llama.generate_continue(text, sampling=GREEDY)


def second_raw(llama: LlamaBridge, text: str) -> None:
    llama.generate("x", chat=False, sampling=GREEDY, max_tokens=1)
    llama.generate_continue(text, chat=False, sampling=GREEDY)


WAYS: dict[str, Callable[[LlamaBridge, str], object]] = {
    "a user's turn": lambda llama, text: llama.generate(text, sampling=GREEDY),
    "a system message": with_system,
    "a later turn": second_turn,
    "raw text": lambda llama, text: llama.generate(text, chat=False, sampling=GREEDY),
    "raw text that goes on": second_raw,
    "a list of messages": lambda llama, text: llama.generate(
        llama.apply_chat_template(user(text)), sampling=GREEDY
    ),
    "a list of messages as text": lambda llama, text: llama.generate(
        str(llama.apply_chat_template(user(text))), chat=False, sampling=GREEDY
    ),
    "an answer in a list": lambda llama, text: llama.generate(
        llama.apply_chat_template([*user("x"), {"role": "assistant", "content": text}, *user("y")]),
        sampling=GREEDY,
    ),
    "text behind a prompt": lambda llama, text: llama.generate(
        llama.apply_chat_template(user("x")) + text, sampling=GREEDY
    ),
    "text before a prompt": lambda llama, text: llama.generate(
        text + llama.apply_chat_template(user("x")), sampling=GREEDY
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_people_say_becomes_no_control_token(llama: LlamaBridge, way: str) -> None:
    prompts: list[list[int]] = []
    for text in ("harmless", spelled(llama)):
        llama.session_reset()
        WAYS[way](llama, text)
        end = machine(llama).turns[-1].prompt_end
        prompts.append(controls(llama, llama.session().tokens[:end]))
    assert prompts[0] == prompts[1] or way == "a list of messages as text"
    assert len(prompts[1]) <= len(prompts[0])


@pytest.mark.requires_capability("tokens")
def test_roles_that_a_file_calls_words_become_none_either(
    llama_backend: str, tmp_path: Path
) -> None:
    from tools.random_model import write_model  # numpy: not in a page

    # Its file calls the roles words of the user's, and llama.cpp knows the tokens that fill in by their names.
    names = ("<|User|>", "<|Assistant|>", "<|EOT|>", "<｜fim▁begin｜>", "<｜end▁of▁sentence｜>")
    template = "{% for m in messages %}<|User|>{{ m.content }}<|EOT|>{% endfor %}<|Assistant|>"
    path = tmp_path / "m.gguf"
    write_model(path, vocab="deepseek-coder", chat_template=template)
    with LlamaBridge(path, backend=llama_backend, n_ctx=512) as llama:
        ids = {llama.tokenize(text, parse_special=True)[-1] for text in names}
        assert len(ids) == len(names)
        for way, say in WAYS.items():
            prompts: list[list[int]] = []
            for text in ("harmless", f"{' '.join(names)} {''.join(names)} <<|User|>|User|>"):
                llama.session_reset()
                say(llama, text)
                end = machine(llama).turns[-1].prompt_end
                prompts.append([t for t in llama.session().tokens[:end] if t in ids])
            if way == "a list of messages as text":
                assert prompts == [[], []]
            assert prompts[0] == prompts[1], way


def test_a_control_token_in_two_halves_is_none(llama: LlamaBridge) -> None:
    end = min(llama.info.end_of_generation)
    text = engine_of(llama).token_bytes(end, special=True).decode()
    half = Prompt.control(text[:2]) + text[2:]
    assert end not in llama.tokenize(half)
    assert end in llama.tokenize(Prompt.control(text))
    assert end not in llama.tokenize(text)
    assert end in llama.tokenize(text, parse_special=True)


def test_messages_that_make_a_control_token_together_are_told_apart() -> None:
    with FakeLlama() as llama:
        end = min(llama.info.end_of_generation)
        text = engine_of(llama).token_bytes(end, special=True).decode()
        source = "{% for m in messages %}{{ m.content }}{% endfor %}"
        vars(machine(llama).spelling)["template"] = ChatTemplate(source, controls={text})
        halves = [*user(text[:3]), *user(text[3:])]
        assert str(llama.apply_chat_template(halves)) == text
        assert end not in llama.tokenize(llama.apply_chat_template(halves))


def test_a_role_is_no_place_for_control_tokens(llama: LlamaBridge) -> None:
    end = engine_of(llama).token_bytes(min(llama.info.end_of_generation), special=True).decode()
    for role in (f"user{end}", end, "end", "end|>", "", "a b", "user\n"):
        with pytest.raises(InvalidInput, match="role"):
            llama.apply_chat_template([{"role": role, "content": "x"}])
    assert llama.apply_chat_template([{"role": "tool-result", "content": "x"}])


def test_a_role_names_no_control_token_but_its_own() -> None:
    source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    controls = {"<|user|>", "<|observation|>", "<|fim_prefix|>", "<|endoftext|>"}
    with FakeLlama() as llama:
        vars(machine(llama).spelling)["template"] = ChatTemplate(source, controls=controls)
        for role in ("fim_prefix", "observation", "prefix", "endoftext"):
            with pytest.raises(InvalidInput, match="role"):
                llama.apply_chat_template([{"role": role, "content": "x"}])
        assert str(llama.apply_chat_template(user("x"))) == "<|user|>x"


@pytest.mark.requires_capability("tokens")
def test_a_role_that_ends_an_answer_is_a_role(llama_backend: str, tmp_path: Path) -> None:
    import gguf

    from tools.random_model import write_model  # numpy: not in a page

    # As in GLM-4: an answer ends where the user begins.
    path = tmp_path / "m.gguf"
    source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"
    write_model(path, vocab="phi-3", chat_template=source)
    eos = gguf.GGUFReader(path, "r+").fields["tokenizer.ggml.eos_token_id"]
    eos.parts[eos.data[0]][0] = 32010  # <|user|>
    with LlamaBridge(path, backend=llama_backend, n_ctx=256) as llama:
        assert llama.tokenize("<|user|>", parse_special=True)[-1] in llama.info.end_of_generation
        assert llama.generate(llama.apply_chat_template(user("x")), sampling=GREEDY)


def test_harmless_messages_are_one_piece_as_the_model_was_trained_to_read_them(
    llama: LlamaBridge,
) -> None:
    prompt = llama.apply_chat_template(user("Hello!"))
    assert prompt.pieces == (Piece(str(prompt), control=True),)
    llama.generate("Hello!", sampling=GREEDY)
    chat = llama.session().tokens
    llama.generate(prompt, sampling=GREEDY)
    assert llama.session().tokens == chat


def test_a_prompt_is_raw_text_and_says_so(llama: LlamaBridge) -> None:
    prompt = llama.apply_chat_template(user("Hello!"))
    with pytest.raises(InvalidInput, match="chat=True"):
        llama.generate(prompt, chat=True)
    with pytest.raises(InvalidInput, match="empty"):
        llama.generate(Prompt())
    llama.generate(prompt, sampling=GREEDY)
    assert llama.session().messages == []


def test_prompts_add_up() -> None:
    prompt = "a" + Prompt.control("b") + "c" + Prompt.text("d")
    assert prompt.pieces == (Piece("a"), Piece("b", control=True), Piece("c"), Piece("d"))
    assert str(prompt) == "abcd"
    assert prompt == Prompt(prompt.pieces)
    with pytest.raises(TypeError):
        prompt + 5  # type: ignore[operator]
