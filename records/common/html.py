"""Self-contained pages of one look: no script, nothing beside the file, light and dark, printable.

A page is a template that extends `page.html.j2`, which holds the style and the macros.
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
    """Returns a page as UTF-8; what is not in UTF-8 (bytes of file names) is escaped.

    Args:
        template: path of the template. All that it prints is escaped, but for what is marked safe.
        **values: by the names of the template, which must have each that it uses.
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


def picture(image: np.ndarray | Image.Image, *, most: int = 0) -> str:
    """Returns an image, uint8 [height, width, 3] or of Pillow, as a PNG in a data URI.

    Args:
        image: the pixels.
        most: pixels of the longer edge, to which a larger image is made smaller; 0: as it is.
    """
    out = io.BytesIO()
    pixels = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if most and max(pixels.size) > most:
        pixels.thumbnail((most, most), Image.Resampling.BOX)
    pixels.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
