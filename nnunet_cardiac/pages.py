"""What pages are made of that need no other file and no network: templates, a script, images."""

import base64
import hashlib
import io
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image


def template(package: str, name: str) -> jinja2.Template:
    """A page's template, of a package's folder."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template(name)


def script(file: Path) -> dict[str, str]:
    """For a template: a ``script``, and the ``script_hash`` by which the page's policy knows it."""
    text = file.read_text("utf-8")
    digest = hashlib.sha256(text.encode()).digest()
    return {"script": Markup(text), "script_hash": base64.b64encode(digest).decode()}


def greys(images: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Images in 256 greys, uint8, all with the same window: from the 1st to the 99.5th percentile of ``sample``."""
    low, high = np.percentile(sample, (1, 99.5))
    return np.round(np.clip((images - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)


def webp(image: np.ndarray, quality: int) -> bytes:
    """A grey image (Y, X), uint8, as a file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "webp", quality=quality)
    return file.getvalue()


def data_uri(image: bytes, kind: str) -> str:
    """A file as the source of an image; ``kind`` as "webp" or "svg+xml"."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
