"""How far a result can be trusted: the one place for what is said of it beside its pixels.

- Does it agree with its input? `consistency`: the residual, and the alarm that true images set.
- Can it be made to? `projection`: the last step that brings the residual to nothing, off by default.
- Would another seed draw something else? `moments`, `regions`: mean, spread, and where the spread is largest.
- What was invented? `invention`: the change against bicubic; with a true image, hallucination and loss rates.
- Can a person see all that? `colours`, `pictures`, `files`: images beside the output, with legend and units.

None of it says that a result is right: only a true image does, and a clinic has none.
"""

from edge_sr.evidence.consistency import EXACT_DB, alarm_notice, residual_db
from edge_sr.evidence.files import CHANGE, STD, UNCERTAINTY, evidence_files, evidence_suffixes
from edge_sr.evidence.invention import InventionRates, change_facts, change_map, invention_rates
from edge_sr.evidence.moments import Moments
from edge_sr.evidence.projection import back_project
from edge_sr.evidence.regions import Region, spread_facts, uncertain_regions

__all__ = [
    "CHANGE",
    "EXACT_DB",
    "STD",
    "UNCERTAINTY",
    "InventionRates",
    "Moments",
    "Region",
    "alarm_notice",
    "back_project",
    "change_facts",
    "change_map",
    "evidence_files",
    "evidence_suffixes",
    "invention_rates",
    "residual_db",
    "spread_facts",
    "uncertain_regions",
]
