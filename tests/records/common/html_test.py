"""Pages are UTF-8, escape what they print, and hold their pictures."""

import base64
import io

import jinja2
import numpy as np
import pytest
from PIL import Image

from records.common import html
from tests import fakes


@pytest.fixture
def template(tmp_path):
    text = '{% extends "page.html.j2" %}{% block body %}<p>{{ name }}</p>{% endblock %}'
    fakes.tree(tmp_path, {"x.html.j2": text.encode()})
    return str(tmp_path / "x.html.j2")


@pytest.mark.parametrize(
    ("name", "printed"),
    [("가", "가"), ("<b>&", "&lt;b&gt;&amp;"), ("\udcff", "&#56575;")],  # the last: a byte FF
)
def test_values_are_escaped(template, name, printed):
    page = html.render(template, name=name).decode("utf-8")
    assert f"<p>{printed}</p>" in page and page.startswith("<!DOCTYPE html>")


def test_a_missing_value_is_an_error(template):
    with pytest.raises(jinja2.UndefinedError, match="'name' is undefined"):
        html.render(template)


def picture(**options):
    uri = html.picture(np.arange(40 * 20 * 3, dtype=np.uint8).reshape(40, 20, 3), **options)
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_picture_keeps_its_pixels():
    expected = np.arange(40 * 20 * 3, dtype=np.uint8).reshape(40, 20, 3)
    np.testing.assert_array_equal(np.asarray(picture()), expected)


@pytest.mark.parametrize(("max_edge", "size"), [(10, (5, 10)), (40, (20, 40)), (100, (20, 40))])
def test_a_picture_is_shrunk_but_not_enlarged(max_edge, size):
    assert picture(max_edge=max_edge).size == size
