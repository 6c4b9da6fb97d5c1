"""Read, write and resample images: PNG, JPEG and TIFF in, PNG out.

OpenCV decodes, but does not judge: it hands out half-read JPEGs and damaged 8-bit TIFFs without a word, and
reads the header only once it has begun. So the file is walked here first. Its size is known and limited
before anything is decoded, a truncated or damaged file is refused, and what OpenCV versions treat differently
(orientation, white-is-zero, alpha) is taken out of its hands. What cannot be noticed is damage inside the
entropy-coded data of a JPEG or the samples of an uncompressed TIFF, which have no checksum.

OpenCV is imported on use: from the extra ``cpu`` or ``gpu``, or from JetPack.
"""

from edge_sr.image.decoding import decode_image, read_image
from edge_sr.image.files import move, refuse_overwrite, remove_parts, write_atomic, write_together
from edge_sr.image.library import opencv
from edge_sr.image.loaded import Limits, LoadedImage
from edge_sr.image.png import encode_png, read_png_text
from edge_sr.image.sizes import DOWNSAMPLE_OPERATORS, downsample, resize_area, resize_bicubic
from edge_sr.image.values import from_unit, merge_luminance, split_luminance, to_planes, to_unit

__all__ = [
    "DOWNSAMPLE_OPERATORS",
    "Limits",
    "LoadedImage",
    "decode_image",
    "downsample",
    "encode_png",
    "from_unit",
    "merge_luminance",
    "move",
    "opencv",
    "read_image",
    "read_png_text",
    "refuse_overwrite",
    "remove_parts",
    "resize_area",
    "resize_bicubic",
    "split_luminance",
    "to_planes",
    "to_unit",
    "write_atomic",
    "write_together",
]
