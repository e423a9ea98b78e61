"""ICC profiles of known colour spaces, written from their published primaries and curves, and the same in numpy."""

import struct

import numpy as np

SRGB_TO_D50 = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
# Columns are the primaries' XYZ, adapted to D50.
SPACES = {
    "Adobe RGB": (
        [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]],
        2.19921875,
    ),
    "Display P3": ([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]], "sRGB"),
    "ProPhoto": ([[0.79767, 0.13519, 0.03134], [0.28804, 0.71188, 0.00009], [0.00000, 0.00000, 0.82510]], 1.8),
}


def decode_srgb(values):
    """Light of sRGB values in [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encode_srgb(light):
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def from_srgb(values, space):
    """The same colours in another space: uint8 sRGB (H, W, 3) to uint8 of that space."""
    matrix, curve = SPACES[space]
    light = decode_srgb(values / 255) @ (np.linalg.inv(np.array(matrix)) @ SRGB_TO_D50).T
    encoded = encode_srgb(light) if curve == "sRGB" else light.clip(0, 1) ** (1 / curve)
    return np.rint(encoded * 255).astype(np.uint8)


def to_srgb(values, space):
    """The inverse of `from_srgb`; colours that sRGB doesn't have are clipped."""
    matrix, curve = SPACES[space]
    light = decode_srgb(values / 255) if curve == "sRGB" else (values / 255) ** curve
    return np.rint(encode_srgb(light @ (np.linalg.inv(SRGB_TO_D50) @ np.array(matrix)).T) * 255).astype(np.uint8)


def rgb_profile(space, version=2):
    """A matrix profile, of ICC version 2 or 4."""
    matrix, curve = SPACES[space]
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, np.array(matrix).T), strict=True))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), parametric(curve) if version == 4 else table(curve))
    return icc(b"RGB ", b"XYZ ", tags, version)


def grey_profile(gamma, version=2):
    return icc(b"GRAY", b"XYZ ", {b"kTRC": parametric(gamma) if version == 4 else table(gamma)}, version)


def cmyk_profile():
    """Inks that each take away their complement, and black: a table of two grid points an ink, to Lab."""
    grid = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    light = (1 - grid[:, :3]) * (1 - grid[:, 3:])
    white = np.array([0.9642, 1.0, 0.8249])
    relative = light @ SRGB_TO_D50.T / white
    f = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative * (29 / 6) ** 2 / 3 + 4 / 29)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)
    stored = np.stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128], axis=-1)
    straight = bytes(range(256))
    content = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + fixed(*np.eye(3).ravel())
    content += straight * 4 + np.rint(stored).clip(0, 255).astype(np.uint8).tobytes() + straight * 3
    return icc(b"CMYK", b"Lab ", {b"A2B0": content}, 2, kind=b"prtr")


def icc(space, connection, tags, version, kind=b"mntr"):
    tags = {b"wtpt": xyz((0.9642, 1.0, 0.8249)), **tags}
    entries, data = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        entries += struct.pack(">4sII", tag, 132 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    size = 128 + len(entries) + len(data)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), version << 24, kind, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    header += bytes(64 - len(header)) + struct.pack(">I", 1) + fixed(0.9642, 1.0, 0.8249)
    return header + bytes(128 - len(header)) + entries + data


def table(curve):
    """A curve as ICC's version 2 has it: an exponent, or samples."""
    if curve != "sRGB":
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(curve * 256))
    samples = np.rint(decode_srgb(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(samples)) + samples.tobytes()


def parametric(curve):
    if curve != "sRGB":
        return b"para" + bytes(4) + struct.pack(">HH", 0, 0) + fixed(curve)
    return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def xyz(values):
    return b"XYZ " + bytes(4) + fixed(*values)


def fixed(*values):
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))
