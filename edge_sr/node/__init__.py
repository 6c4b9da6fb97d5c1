"""The DICOM network node: receives images by C-STORE, enlarges them, sends the derived objects on by C-STORE.

    SCP ─► in/ ─► enlarged ─► made/ ─► out/ ─► SCU
          (an inbox)                 (another inbox)

Each arrow ends with a flushed rename, and nothing is acknowledged before it. pynetdicom is imported on use,
from the extra ``dicom-net``.
"""
