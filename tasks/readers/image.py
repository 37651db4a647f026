"""Pictures: their words by optical recognition, every frame of a TIFF a page."""

from __future__ import annotations

import io
import warnings

from pi_heif import register_heif_opener  # type: ignore[import-untyped]  # has no py.typed
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from tasks.errors import Unreadable
from tasks.readers.content import Content, Source
from tasks.readers.ocr import Recogniser

TYPES = (
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/tiff",
    "image/bmp",
    "image/webp",
    "image/avif",
    "image/heic",
    "image/heif",
    "image/x-icon",
    "image/vnd.adobe.photoshop",
)
_MOST_PIXELS = 80_000_000
_FRAMES_ARE_PAGES = ("image/tiff",)

register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)


def read(source: Source) -> Content:
    """The words in a picture. A picture without words is read, and says so.

    Raises:
        Unreadable: the picture is damaged, over 80 megapixels, or recognition is not installed.
    """
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
    try:
        with Image.open(io.BytesIO(source.data)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise Unreadable(f"the picture has more than {_MOST_PIXELS // 1_000_000} megapixels")
            return _recognise(image, source)
    except Image.DecompressionBombError as error:
        raise Unreadable(f"the picture has more than {_MOST_PIXELS // 1_000_000} megapixels") from error
    except UnidentifiedImageError as error:
        raise Unreadable("the picture is damaged: its beginning is right, the rest is not") from error
    except (OSError, SyntaxError) as error:
        raise Unreadable(f"the picture is damaged: {str(error)[:200]}") from error


def _recognise(image: Image.Image, source: Source) -> Content:
    recogniser = Recogniser(source)
    pages = []
    frames = ImageSequence.Iterator(image) if source.content_type in _FRAMES_ARE_PAGES else [image]
    for frame in frames:
        found = recogniser.text_of(ImageOps.exif_transpose(frame))
        pages.append(found.text if found else "")
        if len(pages) >= source.limits.ocr_pages:
            break
    text = "\f".join(pages)
    notes = [*recogniser.notes]
    total = getattr(image, "n_frames", 1)
    if len(pages) < total and source.content_type in _FRAMES_ARE_PAGES:
        notes.append(f"only {len(pages)} of {total} pages were read")
    notes.append("read by optical recognition" if text.strip("\f \n") else "no words were found in the picture")
    return Content(text=text, pages=max(1, len(pages)), notes=tuple(notes), hurried=recogniser.hurried)
