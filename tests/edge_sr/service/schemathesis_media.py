"""What schemathesis sends as a body: an image of each type that the description names.

What else a body can be is in `test_hostile.py`.
"""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

from tests.edge_sr.dicom import objects
from tests.edge_sr.image import pictures

IMAGES: dict[str, bytes] = {
    "image/png": pictures.encoded(pictures.picture(), ".png"),
    "image/jpeg": pictures.encoded(pictures.picture(), ".jpg"),
    "image/tiff": pictures.encoded(pictures.picture(), ".tiff"),
    "application/dicom": objects.encoded(objects.dx()),
}
for media_type, data in IMAGES.items():
    schemathesis.openapi.media_type(media_type, st.just(data))
