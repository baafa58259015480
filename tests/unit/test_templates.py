"""Templates of messages: read strictly, written with values, within bounds."""

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.api.handlebars import TemplateSyntaxError, parse_template
from smtpgate.core.api.rendering import (
    MissingValueError,
    Parts,
    RenderingError,
    read_data,
    render,
)
from tests.support.rows import rows

DATA: Final[dict[str, Any]] = {
    "name": "Jane & Joe <x>",
    "number": 3,
    "part": 2.5,
    "yes": True,
    "no": False,
    "nothing": None,
    "zero": 0,
    "list": ["a", "b"],
    "people": [{"name": "Ann", "tags": ["x", "y"]}, {"tags": []}],
    "meta": {"city": "Rome", "a b": {"c": "d"}},
    "none": [],
}


def written(template: str, data: dict[str, Any] = DATA, most: int = 10_000) -> str | None:
    return render(Parts(text=template), data, most).text


@rows(
    "template, text",
    [
        ("", ""),
        ("no tags, } and { and }}", "no tags, } and { and }}"),
        ("{{name}}|{{{name}}}|{{ name }}", "Jane & Joe <x>|Jane & Joe <x>|Jane & Joe <x>"),
        ("{{number}} {{part}} {{yes}} {{no}} [{{nothing}}]", "3 2.5 true false []"),
        ("{{meta.city}} {{meta.[a b].c}} {{list.1}} {{list.[0]}}", "Rome d b a"),
        ("{{#if yes}}a{{else}}b{{/if}}{{#if no}}a{{else}}b{{/if}}", "ab"),
        ("{{#if absent}}a{{/if}}{{#if meta.absent.x}}a{{else}}b{{/if}}", "b"),
        ("{{#unless zero}}a{{/unless}}{{#unless yes}}a{{/unless}}", "a"),
        ("{{#if no}}1{{else if zero}}2{{else if yes}}3{{else}}4{{/if}}5", "35"),
        ("{{#if none}}1{{else if no}}2{{/if}}3", "3"),
        ("{{#each list}}{{@index}}{{this}}{{#unless @last}},{{/unless}}{{/each}}", "0a,1b"),
        ("{{#each list}}{{.}}{{#if @first}}!{{/if}}{{/each}}", "a!b"),
        ("{{#each none}}x{{else}}y{{/each}}{{#each absent}}x{{else}}y{{/each}}", "yy"),
        ("{{#each meta}}{{@key}};{{/each}}", "city;a b;"),
        ("{{#each people}}{{name}}:{{#each tags}}{{../name}}{{this}}{{/each}};{{/each}}",
         "Ann:AnnxAnny;Jane & Joe <x>:;"),
        ("{{#each list}}{{number}}{{../number}}{{@root.number}}{{/each}}", "333333"),
        ("{{#with meta}}{{city}}{{this.city}}{{../number}}{{/with}}", "RomeRome3"),
        ("a{{! comment }}b{{!-- {{name}} --}}c", "abc"),
        ("a\n {{#if yes}}\n b\n{{else}}\n c\n {{/if}}  \nd", "a\n b\nd"),
        ("a\r\n{{#each list}}\r\n{{this}}\r\n{{/each}}\r\nd", "a\r\na\r\nb\r\nd"),
        ("a {{#if yes}}\nb{{/if}}\n", "a \nb\n"),
    ],
)  # fmt: skip
def test_a_template_is_written_with_values(template: str, text: str) -> None:
    assert written(template) == text


@rows(
    "template, why",
    [
        ("{{", "line 1: {{}}: the tag is not closed"),
        ("a\nb {{name", "line 2: {{name}}: the tag is not closed"),
        ("{{}}", "is not supported"),
        ("{{{#if yes}}}a{{/if}}", "a block has two braces"),
        ("{{" + "n" * 1001 + "}}", "has more than 1000 characters"),
        ("{{> part}}", "is not supported"),
        ("{{~name}}", "is not supported"),
        ("{{upper name}}", "helpers are not supported"),
        ("{{name.}}", "is no path"),
        ("{{a..b}}", "is no path"),
        ("{{@nope}}", "there is no such value"),
        ("{{#if}}x{{/if}}", "is no path"),
        ("{{#loop x}}{{/loop}}", "there is no such block"),
        ("{{#if a}}x", "{{#if a}} is not closed"),
        ("{{#if a}}x{{/each}}", "the open block is {{#if a}}"),
        ("{{/if}}", "no block is open"),
        ("{{else}}", "no block is open"),
        ("{{#if a}}{{else}}{{else}}{{/if}}", "no block is open that it belongs to"),
        ("{{#if a}}{{else b}}{{/if}}", "`else' is followed by nothing"),
        ("{{#if a}}" * 33, "more than 32 blocks"),
        ("{{#if a}}" + "{{else if a}}" * 33, "more than 32 blocks"),
    ],
)
def test_a_template_that_cannot_be_read_is_refused_with_its_place(
    template: str, why: str
) -> None:
    with pytest.raises(TemplateSyntaxError) as refused:
        parse_template(template)
    assert why in str(refused.value)


@rows(
    "template, error, why",
    [
        ("{{absent}}", MissingValueError, "Attribute 'absent' is not present"),
        ("{{meta.town}}", MissingValueError, "Attribute 'meta.town' is not present"),
        ("{{name.first}}", MissingValueError, "Attribute 'name.first' is not present"),
        ("{{list.9}}", MissingValueError, "Attribute 'list.9' is not present"),
        ("{{../name}}", MissingValueError, "Attribute '../name' is not present"),
        ("{{@index}}", MissingValueError, "Attribute '@index' is not present"),
        ("{{list}}", RenderingError, "is a list or an object"),
        ("{{#each number}}x{{/each}}", RenderingError, "is no list and no object"),
    ],
)
def test_what_the_data_has_not_is_a_failure(
    template: str, error: type[Exception], why: str
) -> None:
    with pytest.raises(error) as refused:
        written(template)
    assert why in str(refused.value)


def test_time_and_size_are_bounded() -> None:
    data = {"list": ["x"] * 1000}
    nested = "{{#each list}}{{#each ../list}}{{#each ../../list}}{{/each}}{{/each}}{{/each}}"
    with pytest.raises(RenderingError, match="too many repetitions"):
        written(nested, data)
    with pytest.raises(RenderingError, match="too large"):
        written("{{#each list}}é{{/each}}", data, most=1999)
    assert written("{{#each list}}é{{/each}}", data, most=2000) == "é" * 1000


def test_data_is_an_object_and_later_values_count() -> None:
    assert read_data('{"a": 1, "b": 1}', "", '{"b": 2}') == {"a": 1, "b": 2}
    assert read_data('{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    for bad in ("[]", "1", "{", '{"a": NaN}', '{"a": "\\ud800"}', "[" * 200_000):
        with pytest.raises(RenderingError):
            read_data(bad)


@given(st.text(alphabet="{}#/ifeach.ls@ thi\n!-[]a", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = written(text, json.loads('{"a": {"i": [1, 2]}, "e": [3]}'))
    except (TemplateSyntaxError, MissingValueError, RenderingError):
        return
    assert found is not None
    if "{{" not in text:
        assert found == text
