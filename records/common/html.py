"""Self-contained HTML pages in one style for light mode, dark mode and print.

A page is a template that extends `page.html.j2`, which holds the style. Pages have no script and no
external files, because a reader may have no network and run no script, and a page sent by e-mail
must still be complete in ten years.
"""

import base64
import io
import os
from typing import Any

import jinja2
import numpy as np
from PIL import Image

_FOLDER = os.path.dirname(__file__)


def render(template: str, **values: Any) -> bytes:
    """Returns a page as UTF-8; surrogates (bytes of file names that are not UTF-8) are escaped.

    Args:
        template: path of the template. Values are escaped unless it marks them as safe.
        **values: the template's variables; a missing one is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([os.path.dirname(os.path.abspath(template)), _FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(os.path.basename(template)).render(**values)
    return page.encode("utf-8", "xmlcharrefreplace")


def picture(image: np.ndarray | Image.Image, *, max_edge: int = 0) -> str:
    """Returns an image, uint8 [height, width, 3] or a Pillow image, as a PNG in a data URI.

    An image whose longer edge exceeds `max_edge` pixels is shrunk to it; 0 keeps every size.
    """
    out = io.BytesIO()
    pixels = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if max_edge and max(pixels.size) > max_edge:
        pixels.thumbnail((max_edge, max_edge), Image.Resampling.BOX)
    pixels.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
