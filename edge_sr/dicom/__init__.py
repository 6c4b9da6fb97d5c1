"""DICOM in, derived DICOM out.

    decode_dicom ─► Source.image ─► the model ─► derive ─► a new object in the same study

`edge_sr.dicom.source` is the way through it; what is read, written and refused is in
docs/dicom-conformance.md. pydicom is imported on use, from the extra ``dicom``.
"""

from edge_sr.dicom.identity import Record
from edge_sr.dicom.part10 import is_dicom
from edge_sr.dicom.source import Source, decode_dicom, derive, read_dicom

__all__ = ["Record", "Source", "decode_dicom", "derive", "is_dicom", "read_dicom"]
