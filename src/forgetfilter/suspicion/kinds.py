"""Name the kinds of rows that suspicion is fitted to, and say how much each counts."""

from __future__ import annotations

# Nothing is known about UNTRUSTED rows. HARMLESS and UNSAFE are single rows that a person looked at. Prototypes are the
# package's own rows.
UNTRUSTED, SAFE, TRUSTED, HARMLESS, UNSAFE, PROTOTYPE_SAFE, PROTOTYPE_ORDINARY = range(7)
# Unsafe prototypes are of three families, because no single rule is like all of them.
FAMILIES = PROTOTYPE_HARMFUL, PROTOTYPE_TOXIC, PROTOTYPE_BIASED = 7, 8, 9
HARMLESS_PROTOTYPES = PROTOTYPE_SAFE, PROTOTYPE_ORDINARY
KNOWN_HARMLESS = SAFE, TRUSTED, HARMLESS

# How many rows each kind counts as. Rows of known kind, and suspected ones, are weighted individually. One known row
# counts as much as six to fourteen unsafe prototypes, so two dozen outweigh these. With more weight, the rules would be
# about the topics of the known rows (docs/evidence.md).
WEIGHT_OF_KIND = {SAFE: 100.0, TRUSTED: 100.0, PROTOTYPE_SAFE: 30.0, PROTOTYPE_ORDINARY: 60.0}
WEIGHT_OF_KIND |= dict.fromkeys(FAMILIES, 10.0)
# Each of two similar kinds takes over the other's weight where the other has no rows.
ALIKE = {SAFE: PROTOTYPE_SAFE, PROTOTYPE_SAFE: SAFE, TRUSTED: PROTOTYPE_ORDINARY, PROTOTYPE_ORDINARY: TRUSTED}
WEIGHT_OF_KNOWN = 1.5
