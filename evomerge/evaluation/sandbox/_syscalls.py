"""Numbers of the Linux calls that confined code may not make: what no program on strings and numbers needs.

Numbers are those of Linux's `unistd.h` (x86_64, aarch64); None where the machine has no such call.
"""

import platform
from collections.abc import Sequence

_Numbers = tuple[int | None, int | None]

# Other processes: starting, signalling, reading or slowing them. New threads are no new processes.
_PROCESSES: tuple[_Numbers, ...] = (
    (57, None), (58, None), (59, 221), (322, 281), (62, 129), (200, 130), (234, 131), (129, 138), (297, 240),
    (434, 434), (438, 438), (424, 424), (101, 117), (310, 270), (311, 271), (302, 261), (141, 140), (203, 122),
    (144, 119), (142, 118), (314, 274), (251, 30), (256, 238), (279, 239), (440, 440),
)  # fmt: skip
# Sockets, and the calls that make them by another way (io_uring).
_NETWORK: tuple[_Numbers, ...] = (
    (41, 198), (42, 203), (49, 200), (50, 201), (43, 202), (288, 242), (425, 425), (426, 426), (427, 427),
)  # fmt: skip
# Owners, rights, times and attributes of files, which Landlock does not cover; devices; memory that processes share.
_FILES: tuple[_Numbers, ...] = (
    (90, None), (91, 52), (268, 53), (452, 452), (92, None), (93, 55), (94, None), (260, 54), (188, 5), (189, 6),
    (190, 7), (197, 14), (198, 15), (199, 16), (132, None), (235, None), (261, None), (280, 88), (76, 45), (133, None),
    (259, 33), (29, 194), (68, 186), (64, 190), (240, 180), (241, 181), (250, 219), (248, 217), (249, 218),
)  # fmt: skip
# The machine: mounts, namespaces, clocks, modules, swap, accounting, probes.
_SYSTEM: tuple[_Numbers, ...] = (
    (272, 97), (308, 268), (165, 40), (166, 39), (429, 429), (428, 428), (430, 430), (431, 431), (432, 432),
    (433, 433), (442, 442), (155, 41), (161, 51), (169, 142), (246, 104), (320, 294), (175, 105), (313, 273),
    (176, 106), (167, 224), (168, 225), (170, 161), (171, 162), (164, 170), (227, 112), (305, 266), (159, 171),
    (172, None), (173, None), (163, 89), (179, 60), (443, 443), (321, 280), (298, 241), (323, 282), (135, 92),
    (103, 116), (300, 262),
)  # fmt: skip
# Making, removing and renaming files: refused where Landlock cannot say in which folder.
_WRITING: tuple[_Numbers, ...] = (
    (85, None), (87, None), (263, 35), (82, None), (264, 38), (316, 276), (86, None), (265, 37), (88, None),
    (266, 36), (83, None), (258, 34), (84, None), (437, 437),
)  # fmt: skip

_MACHINES = ("x86_64", "aarch64")
AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
OPEN = {"x86_64": ((2, 1), (257, 2)), "aarch64": ((56, 2),)}  # (call, position of the flags among its arguments)
CAPSET = {"x86_64": 126, "aarch64": 91}
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446


def machine() -> str | None:
    """Return the kind of processor, if its calls are known; None on other systems than Linux."""
    found = platform.machine()
    return found if platform.system() == "Linux" and found in _MACHINES else None


def refused_calls(kind: str, *, writing: bool) -> Sequence[int]:
    """Return the numbers of the calls that are refused on a kind of processor.

    Args:
        kind: as `machine` returns it.
        writing: whether files may be made and removed, as something else says where.
    """
    column = _MACHINES.index(kind)
    groups = (_PROCESSES, _NETWORK, _FILES, _SYSTEM, () if writing else _WRITING)
    return sorted({number for group in groups for call in group if (number := call[column]) is not None})
