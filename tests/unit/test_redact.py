"""No secret is shown: what looks like a credential, and what this process has read."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table

from build_matrix import redact as module
from build_matrix.errors import BuildMatrixError, InstallError
from build_matrix.model import readable_json
from build_matrix.redact import guard_output, redact, redact_all, remember, remember_environment, remember_urls
from build_matrix.report import LineReporter, RedactingConsole, TerminalReporter


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:s3cret@host:80/simple/ x", "http://***@host:80/simple/ x"),
        ("https://s3cret@host/simple", "https://***@host/simple"),
        ("name=http://user:s3cret@host/", "name=http://***@host/"),
        ("socks5h://u:s3cret@host:1080", "socks5h://***@host:1080"),
        ("redis://:s3cret@host/0", "redis://***@host/0"),
        ("s3://key:s3cret@bucket/prefix", "s3://***@bucket/prefix"),
        ("git+https://s3cret@host/x.git@v1", "git+https://***@host/x.git@v1"),
        ("http://us%40er:s3%2Fcret@host/", "http://***@host/"),
        ("http://u:s3@cr/et:x@host/path", "http://***@host/path"),
        ("http://a@b:12/s3cret@host/", "http://***@host/"),
        ("http://DOMAIN\\s3cret@host/o/r@v1", "http://***@host/o/r@v1"),
        ('"http:\\/\\/s3cret@host\\/x@1"', '"http:\\/\\/***@host\\/x@1"'),
        ("http://u:s3?cr#et@host/", "http://***@host/"),
        ("http://u:s3 cr et@host/x failed", "http://***@host/x failed"),
        ("http://u:s3\"cret'@host/", "http://***@host/"),
        ("http://u:12/s3cret@host/", "http://***@host/"),
        ("//u:s3cret@host/x", "//***@host/x"),
        ("http:/u:s3cret@host", "http:/***@host"),
        ("user:s3cret@proxy:3128", "***@proxy:3128"),
        ("index 'user:s3cret@host/simple' has no scheme", "index '***@host/simple' has no scheme"),
        ("there is no library in /etc/passwd: llama_cpp", "there is no library in /etc/passwd: llama_cpp"),
        ('"http:\\/\\/u:s3cret@host\\/"', '"http:\\/\\/***@host\\/"'),
        ("endpoint=http%3A%2F%2Fu%3As3cret%40host", "endpoint=http%3A%2F%2F***%40host"),
        ("https://h/f.whl?token=s3cret&x=1", "https://h/f.whl?token=***&x=1"),
        (
            "https://h/f?X-Amz-Credential=s3&X-Amz-Signature=cret",
            "https://h/f?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        ("https://h/f?se=2026&sig=s3%2Bcret", "https://h/f?se=2026&sig=***"),
        ("https://h/f?zz=0123456789abcdefs3cret", "https://h/f?zz=***"),
        ("Authorization: Basic dXNlcjpwdw==\nnext", "Authorization: ***\nnext"),
        ("{'Proxy-Authorization': 'Bearer s3cret'}", "{'Proxy-Authorization': '***'}"),
        ("> PRIVATE-TOKEN: s3cret", "> PRIVATE-TOKEN: ***"),
        ("Set-Cookie: a=s3cret; b=s3cret", "Set-Cookie: ***"),
        ("sent Basic dXNlcjpwdzEy to", "sent Basic *** to"),
        ("UV_INDEX_X_PASSWORD=s3cret uv", "UV_INDEX_X_PASSWORD=*** uv"),
        ("password: s3cret", "password: ***"),
        ("pypi-AgEIcHlwaS5vcmcCs3cret", "***"),
        ("glpat-0123456789s3cret-x", "***"),
        ("http://h/|bearer-token=s3cret", "http://h/|bearer-token=***"),
        ("http://a:s3@h1/ and http://b:cret@h2/", "http://***@h1/ and http://***@h2/"),
    ],
)
def test_what_looks_like_a_credential_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:9/simple/ cannot be reached",
        "https://docs.nvidia.com/cuda/index.html#section",
        "s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]",
        "undefined reference to `memcpy@GLIBC_2.14'",
        "ggml.c:12:3: error: expected ';' before 'token'",
        "llama_token token = 5; n_token: 5",
        "/usr/bin/nvcc -DGGML_CUDA=1 --threads=1 -gencode=arch=compute_89,code=[sm_89] x.cu",
        "nvidia-cublas 13.0.2.14 sha256 0123456789abcdef0123456789abcdef",
        "GIT_TERMINAL_PROMPT=0 TOKENIZERS_PARALLELISM=false",
        "mail admin@host.test",
        "git+https://github.com/owner/name@v1",
        "https://github.com/owner/name.git@0123abc#egg=x and https://registry.test/@scope/name",
        '"https:\\/\\/github.com\\/owner\\/name@v1"',
    ],
)
def test_what_is_no_credential_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@settings(deadline=None, derandomize=True, database=None)
@given(
    scheme=st.sampled_from(["http", "https", "socks5", "redis", "ftp", "s3", "name=http"]),
    user=st.text("ab%@é.-_", max_size=6),
    password=st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=("Cs", "Cc", "Zl", "Zp"))),
)
def test_no_password_in_a_url_survives_whatever_is_in_it(scheme: str, user: str, password: str) -> None:
    marked = f"Q{password.replace('://', '')}Z7"
    shown = redact(f"before {scheme}://{user}:{marked}@host.test/simple/ after")
    assert marked not in shown
    assert shown.endswith("@host.test/simple/ after")


def test_redacting_twice_changes_nothing() -> None:
    once = redact("http://u:s3cret@host/?token=abc Authorization: Basic abcdefg1=")
    assert redact(once) == once


@pytest.mark.parametrize("shown", ["s3 c/ret", "s3%20c%2Fret", "s3+c%2Fret", "'s3 c/ret'", "s3 c\\/ret"])
def test_a_remembered_secret_is_hidden_wherever_it_appears(shown: str) -> None:
    remember("s3%20c%2Fret")
    assert redact(f"x {shown} y").replace("s3 c\\/ret", "left") in {"x *** y", "x '***' y", "x left y"}


def test_a_secret_in_another_one_does_not_uncover_it() -> None:
    remember("s3cret-long", "s3cret-longer-still")
    assert redact("s3cret-longer-still") == "***"


def test_a_short_secret_is_hidden_only_as_a_whole() -> None:
    remember("cuda", "abc")
    assert redact("the cuda libcudart abc") == "the *** libcudart abc"


def test_the_password_of_an_address_without_a_scheme_is_remembered_and_its_user_is_none() -> None:
    remember_urls("user:s3cret-index@host", "someone-else@host")
    assert redact("'s3cret-index' of someone-else") == "'***' of someone-else"


def test_a_word_that_every_program_prints_is_no_secret() -> None:
    remember("false", "None")
    assert redact("false None") == "false None"


def test_the_environment_names_its_secrets() -> None:
    remember_environment(
        {
            "HTTPS_PROXY": "user:s3cret-proxy@proxy:3128",
            "UV_DEFAULT_INDEX": "name=https://user:s3cret-index@host/",
            "UV_INDEX_X_PASSWORD": "s3cr",
            "AWS_SECRET_ACCESS_KEY": "s3cret-aws",
            "GITHUB_TOKEN": "s3cret-github",
            "PLAIN": "visible-value",
            "MONKEY": "visible-too",
        }
    )
    for secret in ("s3cret-proxy", "s3cret-index", "s3cr", "s3cret-aws", "s3cret-github"):
        assert redact(f"x {secret} y") == "x *** y"
    assert redact("visible-value visible-too") == "visible-value visible-too"


def test_the_shells_current_folder_is_no_password() -> None:
    remember_environment({"PWD": "/home/someone/checkout", "OLDPWD": "/home/someone/elsewhere"})
    for text in ("/home/someone/checkout/wheels", "/home/someone/elsewhere"):
        assert redact(text) == text


def test_a_variable_that_is_no_text_is_a_secret_too() -> None:
    remember_environment({"UV_INDEX_X_PASSWORD": "s3cret-\udcff", "HTTP_PROXY": "http://u:s3cret-\udcfe@h"})
    assert redact("x s3cret-\udcff y s3cret-%FF z s3cret-\udcfe") == "x *** y *** z ***"


def test_user_and_password_are_known_as_the_header_has_them() -> None:
    remember_urls("https://user:s3cret@host/")
    assert redact("x dXNlcjpzM2NyZXQ= y") == "x *** y"


def test_json_is_redacted_value_by_value() -> None:
    value = {"url": "http://u:s3cret@h/", "list": ["token=1", ("https://s3cret@h",)], "API_KEY": "s3cret", "count": 3}
    assert redact_all(value) == {
        "url": "http://***@h/",
        "list": ["token=1", ["https://***@h"]],
        "API_KEY": "***",
        "count": 3,
    }
    assert b"s3cret" not in readable_json(value)


@pytest.mark.parametrize("kind", [BuildMatrixError, InstallError])
def test_an_error_holds_no_credential(kind: type[BuildMatrixError]) -> None:
    error = kind("cannot reach http://u:s3cret@h/.", "Check http://u:s3cret@h/.")
    assert "s3cret" not in f"{error}{error!r}{error.args}{error.problem}{error.remedy}"
    assert "http://***@h/" in error.problem


@pytest.mark.parametrize("reporter", [LineReporter, TerminalReporter])
def test_a_reporter_shows_no_credential(reporter: type[LineReporter | TerminalReporter]) -> None:
    out = io.StringIO()
    shown = reporter(RedactingConsole(file=out, width=200))
    shown.say("http://u:s3cret@h/")
    shown.warn("http://u:s3cret@h/")
    with shown.meter("from http://u:s3cret@h/", "bytes", 10) as meter:
        meter.update(5)
    assert "s3cret" not in out.getvalue()
    assert out.getvalue().count("http://***@h/") >= 2


def test_a_table_hides_a_credential_before_it_folds_the_text() -> None:
    out = io.StringIO()
    table = Table("column", box=None)
    table.add_row("see http://user:s3cret-and-long@host/")
    RedactingConsole(file=out, width=12).print(table)
    assert "s3cret" not in out.getvalue().replace("\n", "").replace(" ", "")


def test_the_output_of_the_whole_process_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setenv("UV_INDEX_X_PASSWORD", "s3cret-known")
    guard_output()
    guard_output()
    sys.stdout.write("http://u:s3cret@h/ ")
    sys.stderr.writelines(["s3cret-known\n"])
    assert not sys.stdout.isatty()
    assert out.getvalue() == "http://***@h/ ***\n"


def test_a_line_of_a_compilers_log_costs_little() -> None:
    """Counted in searches, not in seconds: what a text does not hint at is not searched for."""
    line = "/usr/bin/nvcc " + " ".join(f"-DGGML_{n}=ON -I/store/include/{n}" for n in range(100))
    searched = [hints for hints, _, _ in module._PATTERNS if any(hint in line.lower() for hint in hints)]
    assert searched == []
