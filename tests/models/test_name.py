"""What names mean: every form that people write or paste, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llama_bridge import InvalidInput
from llama_bridge.models.name import AppName, HubName, Name, PathName, UrlName, read_name

DIGEST = "0123456789abcdef" * 4
REPO = HubName("org/repo")


@pytest.mark.parametrize(
    "text",
    [
        "demo",
        "model.gguf",
        "./a/b.gguf",
        "~/x.gguf",
        "C:\\models\\x.gguf",
        "org/repo",
        "a:b",
        "",
        "org/repo.gguf:Q8_0",
        "org/repo/file.gguf",
        "/abs/hf:org/repo",
        "hfx:org/repo",
        "x y/z:Q4",
    ],
)
def test_everything_else_is_a_path(text: str) -> None:
    assert read_name(text) == PathName(text)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("hf:org/repo", REPO),
        ("HF:org/repo", REPO),
        ("hf://org/repo", REPO),
        ("hf.co/org/repo", REPO),
        ("huggingface.co/org/repo", REPO),
        ("https://hf.co/org/repo", REPO),
        ("https://huggingface.co/org/repo/", REPO),
        ("https://www.huggingface.co/org/repo?library=llama-cpp", REPO),
        ("hf.co/org/repo:latest", REPO),
        ("hf:org/repo:Q5_K_M", HubName("org/repo", None, "Q5_K_M")),
        ("hf.co/org/repo:UD-IQ2_M", HubName("org/repo", None, "UD-IQ2_M")),
        ("hf:org/repo@v1.0", HubName("org/repo", None, None, "v1.0")),
        ("hf:org/repo:Q8_0@v1.0", HubName("org/repo", None, "Q8_0", "v1.0")),
        ("hf:org/repo@v1.0:Q8_0", HubName("org/repo", None, "Q8_0", "v1.0")),
        ("hf:org/repo@feature/x", HubName("org/repo", None, None, "feature/x")),
        ("hf:org/repo/file.gguf", HubName("org/repo", "file.gguf")),
        ("hf:org/repo/Q4/my file.GGUF", HubName("org/repo", "Q4/my file.GGUF")),
        ("hf:org/repo/file.gguf@revision", HubName("org/repo", "file.gguf", None, "revision")),
        ("hf:org/repo@refs/pr/3/d/f.gguf", HubName("org/repo", "d/f.gguf", None, "refs/pr/3")),
        ("hf:org/repo/f.gguf@refs/pr/3", HubName("org/repo", "f.gguf", None, "refs/pr/3")),
        ("hf:1-a/b.c_D:q4", HubName("1-a/b.c_D", None, "q4")),
        (
            "https://huggingface.co/org/repo/resolve/main/a%20b.gguf?download=true",
            HubName("org/repo", "a b.gguf", None, "main"),
        ),
        (
            "https://huggingface.co/org/repo/blob/refs%2Fpr%2F1/x/f.gguf",
            HubName("org/repo", "x/f.gguf", None, "refs/pr/1"),
        ),
        ("huggingface.co/org/repo/tree/dev/Q4", HubName("org/repo", None, None, "dev")),
        (
            f"https://huggingface.co/org/repo/resolve/v1/f.gguf?download=true#sha256={DIGEST}",
            HubName("org/repo", "f.gguf", None, "v1", DIGEST),
        ),
        (f"hf.co/org/repo:Q4#sha256={DIGEST}", HubName("org/repo", None, "Q4", None, DIGEST)),
        (f"hf:org/repo@v1#sha256:{DIGEST}", HubName("org/repo", None, None, "v1", DIGEST)),
        (f"hf:org/repo/a#b.gguf#sha256={DIGEST}", HubName("org/repo", "a#b.gguf", sha256=DIGEST)),
        ("hf:org/repo/a#sha256b.gguf", HubName("org/repo", "a#sha256b.gguf")),
        ("https://example.org/m.gguf", UrlName("https://example.org/m.gguf")),
        ("https://example.org/m.gguf#top", UrlName("https://example.org/m.gguf")),
        (f"https://e.org/m?x=1#sha256={DIGEST}", UrlName("https://e.org/m?x=1", DIGEST)),
        (f"http://lan/m.gguf#sha256={DIGEST.upper()}", UrlName("http://lan/m.gguf", DIGEST)),
        ("http://127.0.0.1:80/m.gguf", UrlName("http://127.0.0.1:80/m.gguf")),
        ("http://localhost/m.gguf", UrlName("http://localhost/m.gguf")),
        ("http://[::1]:8/m.gguf", UrlName("http://[::1]:8/m.gguf")),
        ("ollama:llama3.2:1b", AppName("ollama", "llama3.2:1b")),
        ("lmstudio:org/repo/f.gguf", AppName("lmstudio", "org/repo/f.gguf")),
        ("org/repo:Q4_K_M", PathName("org/repo:Q4_K_M", HubName("org/repo", None, "Q4_K_M"))),
        ("org/repo:Q4@dev", PathName("org/repo:Q4@dev", HubName("org/repo", None, "Q4", "dev"))),
    ],
)
def test_a_name_means_the_same_in_each_form(text: str, means: Name) -> None:
    assert read_name(text) == means
    assert read_name(str(means)) == means


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hf:", "org/repo"),
        ("hf:repo", "org/repo"),
        ("hf:org/", "org/repo"),
        ("hf:/repo", "org/repo"),
        ("hf:or g/repo", "org/repo"),
        ("hf:org--x/repo", "org/repo"),
        ("hf:../repo", "org/repo"),
        (f"hf:{'a' * 97}/repo", "no part"),
        ("hf:org/repo:", "quantisation"),
        ("hf:org/repo:Q4 0", "quantisation"),
        ("hf:org/repo:Q4/f.gguf", "quantisation"),
        ("hf:org/repo/", "after the last /"),
        ("hf:org/repo/f.safetensors", "no GGUF file"),
        ("hf:org/repo/../f.gguf", "no path"),
        ("hf:org/repo//f.gguf", "no path"),
        ("hf:org/repo/C:\\f.gguf", "not both"),
        ("hf:org/repo/a\\..\\f.gguf", "no path"),
        ("hf:org/repo/f.gguf:Q4", "not both"),
        ("hf:org/repo@", "revision"),
        ("hf:org/repo@a@b", "revision"),
        ("hf:org/repo@../../x", "revision"),
        ("hf:org/repo:Q4@-x", "revision"),
        ("https://huggingface.co/datasets/org/repo", "no model repository"),
        ("ftp://example.org/m.gguf", "ftp:// is not supported"),
        ("file:///m.gguf", "file:// is not supported"),
        ("https://", "no host"),
        ("https:///m.gguf", "no host"),
        ("https://exa mple.org/m.gguf", "spaces"),
        ("https://example.org:99999/m", "not an address"),
        ("https://example.org/m#sha256=12", "64 hexadecimal digits"),
        ("https://hf.co/org/repo#sha256=12", "64 hexadecimal digits"),
        ("hf:org/repo/f.gguf#sha256=12", "64 hexadecimal digits"),
        ("hf:org/repo:Q4@v1#sha256", "64 hexadecimal digits"),
        (f"hf:org/repo#sha256={DIGEST}0", "64 hexadecimal digits"),
        ("org/repo:Q4#sha256=12", "64 hexadecimal digits"),
        ("http://example.org/m.gguf", "can be changed on its way"),
        ("http://127.evil.example/m.gguf", "can be changed on its way"),
        ("ollama:", "after ollama:"),
    ],
)
def test_what_only_looks_like_a_name_is_refused_with_the_part_that_is_wrong(
    text: str, why: str
) -> None:
    with pytest.raises(InvalidInput, match="model=") as error:
        read_name(text)
    assert why in str(error.value)
    assert "hf:org/repo" in str(error.value)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput) as error:
        read_name("https://user:secret@example.org/m.gguf")
    assert "secret" not in str(error.value)


@given(st.text() | st.from_regex(r"hf:\w+/[\w.:/@-]*|https?://[\w.:/@#%?-]*", fullmatch=True))
@example("hf:a/b@")
@example("https://[")
def test_any_text_is_a_name_or_a_clear_refusal(text: str) -> None:
    try:
        name = read_name(text)
    except InvalidInput:
        return
    if not isinstance(name, PathName):
        assert read_name(str(name)) == name


@pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no processes")
def test_names_are_read_without_disk_or_network() -> None:
    code = (
        "import sys; from llama_bridge.models.name import read_name\n"
        "assert not {'huggingface_hub', 'llama_bridge.hub.client', 'urllib.request'} & set(sys.modules)\n"
        "def hook(event, args):\n"
        "    if event.startswith(('open', 'socket', 'os.')): raise RuntimeError(event)\n"
        "sys.addaudithook(hook)\n"
        "read_name('hf:org/repo:Q4_K_M'); read_name('org/repo:Q4'); read_name('https://e.org/m.gguf')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
