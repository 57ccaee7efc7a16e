"""Chat templates are programs of strangers: one that takes too much is refused, and says for which row."""

import pytest

from forgetfilter.data import templates
from forgetfilter.data.chats import Chat, FieldError
from forgetfilter.data.containers import open_container
from forgetfilter.data.rows import ReadOptions, read_rows
from forgetfilter.data.tokens import Encoder
from forgetfilter.errors import BadRowsError, ModelError
from support.quick_runs import write_jsonl
from support.tiny_models import CHAT_TEMPLATE, make_tokenizer

LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
DOUBLED = "{% set ns = namespace(x='xxxxxxxxxx') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
HOSTILE = {
    "loop": LOOP,
    "loop in an answer's tags": "{% generation %}" + LOOP + "{% endgeneration %}",
    "text": "{{ 'x' * 10000000000 }}",
    "doubled text": DOUBLED,
    "list": "{% set x = [0] * 9000000000 %}",
    "power": "{% set x = 7 ** 999999999 %}",
    "width": "{{ '%9000000000d' % 1 }}",
    "filter": "{{ 'x' | center(9000000000) }}",
    "calls": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "words": "{{ lipsum(n=100000000) }}",
    "blocks": "{% for i in [1] %}" * 200 + "{% endfor %}" * 200,
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
}


@pytest.fixture(autouse=True)
def little_time(monkeypatch):
    monkeypatch.setattr(templates, "_SECONDS", 0.3)


def encoder(template):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return Encoder(tokenizer, "chat", 512)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_takes_too_much_is_refused_before_any_row(name):
    with pytest.raises(ModelError, match=r"chat template (takes more than|is broken)") as error:
        encoder(HOSTILE[name] + CHAT_TEMPLATE)
    assert len(str(error.value)) < 200


def test_a_template_that_makes_too_much_text_names_the_row(monkeypatch):
    monkeypatch.setattr(templates, "LONGEST_ROW", 1000)
    long = encoder("{{ 'x' * 2000 }}" + CHAT_TEMPLATE)
    with pytest.raises(FieldError, match="makes 2,0"):
        long.check(Chat.of("May I?", "No."))


SLOW = LOOP.replace("99999", "n or 1") + CHAT_TEMPLATE


def read(folder, slow, **options):
    """Six rows, some of which set what makes the template slow."""
    chats = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "b"}]} for i in range(6)
    ]
    rows = [{**row, "chat_template_kwargs": {"n": 99999}} if i in slow else row for i, row in enumerate(chats)]
    path = write_jsonl(folder / "d.jsonl", rows)
    return read_rows(open_container(str(path)), ReadOptions(**options), folder, check=encoder(SLOW).check)


def test_a_row_for_which_it_takes_too_much_is_a_bad_row(tmp_path):
    with pytest.raises(
        BadRowsError, match=r"line 4: found a chat for which the model's chat template takes more than 0\."
    ):
        read(tmp_path, {3})
    assert [row.row for row in read(tmp_path, {3}, skip_bad_rows=True).bad] == [3]


def test_after_some_such_rows_the_template_is_refused(tmp_path):
    with pytest.raises(ModelError, match="for each of 3 rows; use --template plain"):
        read(tmp_path, {1, 2, 3, 4}, skip_bad_rows=True)
