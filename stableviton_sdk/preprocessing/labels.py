"""Names of the parse's labels."""

from enum import IntEnum


class CIHP(IntEnum):
    """Labels of a CIHP parse, the kind that the agnostic mask's rule reads. LIP's are the same except for 10."""

    BACKGROUND = 0
    HAT = 1
    HAIR = 2
    GLOVE = 3
    GLASSES = 4
    UPPER_CLOTHES = 5
    DRESS = 6
    COAT = 7
    SOCKS = 8
    TROUSERS = 9
    TORSO_SKIN = 10
    SCARF = 11
    SKIRT = 12
    FACE = 13
    LEFT_ARM = 14
    RIGHT_ARM = 15
    LEFT_LEG = 16
    RIGHT_LEG = 17
    LEFT_SHOE = 18
    RIGHT_SHOE = 19


UPPER_GARMENTS = (CIHP.UPPER_CLOTHES, CIHP.DRESS, CIHP.COAT)
