"""How long a frame keeps the bus, and how full the bus is.

Bits are counted from the start of frame to the end of the interframe space, with the stuff bits that this
very frame has on the wire (ISO 11898-1:2015, 10.5): five equal bits are followed by one of the other value,
in a classic frame up to the end of its CRC, in a CAN FD frame up to the end of its data; an FD frame's stuff
count and CRC have fixed stuff bits instead. Acknowledge and interframe space count 1 and 3 bits.

A remote frame has a length and no data. An error frame counts 0: the kernel tells that something went wrong, not for how long.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.can.frames import BITRATE_SWITCH, ERROR, EXTENDED, FD, REMOTE, Frames

BitArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]

TAIL = 13  # CRC delimiter, acknowledge and its delimiter, 7 end of frame, 3 interframe space
CRC15, CRC15_BITS = np.uint16(0x4599), 15
SHORT_FD_CRC, LONG_FD_CRC = 27, 32  # fixed stuff bits + stuff count + CRC: to 16 bytes, and beyond
BLOCK = 4096  # frames at a time: they fit the processor's cache, which is four times as fast
SHORTEST = 47  # bits of the shortest frame there is, without stuff bits
FD_LENGTHS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)


def bits_on_bus(frames: Frames) -> tuple[IntArray, IntArray]:
    """Bits that each frame takes.

    Returns
    -------
    (nominal_bits, data_bits)
        int64[n] each: bits at the bus's bit rate, and at the second, faster one (CAN FD with bit rate switch).
    """
    nominal, data = np.zeros(len(frames), np.int64), np.zeros(len(frames), np.int64)
    flags = frames["flags"]
    shape = (flags & (EXTENDED | REMOTE | FD | BITRATE_SWITCH)).astype(np.int64) << 8 | frames["length"]
    shape[(flags & ERROR) != 0] = -1
    for one in np.unique(shape[shape >= 0]).tolist():
        chosen = np.flatnonzero(shape == one)
        count = _fd if one >> 8 & FD else _classic
        for begin in range(0, len(chosen), BLOCK):
            part = chosen[begin : begin + BLOCK]
            nominal[part], data[part] = count(frames[part], one >> 8, one & 0xFF)
    return nominal, data


def bus_load(frames: Frames, seconds: float, bitrate: int, data_bitrate: int | None = None) -> float:
    """Share of the time that the frames kept the bus, 0 to 1 (over 1 where they can't have fitted).

    `bitrate` and `data_bitrate` in bit/s; without the second, all bits go at the first.
    """
    if seconds <= 0:
        return 0.0
    nominal, data = bits_on_bus(frames)
    return float((nominal.sum() / bitrate + data.sum() / (data_bitrate or bitrate)) / seconds)


def most_frames(bitrate: int) -> int:
    """No bus of this bit rate carries more frames a second."""
    return bitrate // SHORTEST + 1


def _classic(frames: Frames, flags: int, length: int) -> tuple[IntArray, IntArray]:
    head = _head(frames, flags)
    data = _data(frames, 0 if flags & REMOTE else length)
    body = np.hstack([head, _number(np.full(len(frames), length), 4), data])
    body = np.hstack([body, _crc15(body)])
    stuffed = _stuffed(body).sum(axis=1)
    return body.shape[1] + stuffed + TAIL, np.zeros(len(frames), np.int64)


def _fd(frames: Frames, flags: int, length: int) -> tuple[IntArray, IntArray]:
    head = _head(frames, flags)  # up to and with the bit rate switch
    state = np.zeros((len(frames), 1), np.uint8)
    code = next((n for n, fits in enumerate(FD_LENGTHS) if fits >= length), 15)
    rest = np.hstack([state, _number(np.full(len(frames), code), 4), _data(frames, length)])
    stuffed = _stuffed(np.hstack([head, rest]))[:, :-1]  # after the last bit a fixed one stands anyway
    first, second = stuffed[:, : head.shape[1]].sum(axis=1), stuffed[:, head.shape[1] :].sum(axis=1)
    nominal = head.shape[1] + first + TAIL
    data = rest.shape[1] + second + (SHORT_FD_CRC if length <= 16 else LONG_FD_CRC)
    return (nominal, data) if flags & BITRATE_SWITCH else (nominal + data, np.zeros_like(data))


def _head(frames: Frames, flags: int) -> BitArray:
    """Start of frame to what stands before the length; in CAN FD, before the error state."""
    ids = frames["id"].astype(np.int64)
    zero = np.zeros((len(frames), 1), np.uint8)
    one = np.ones_like(zero)
    remote = one if flags & REMOTE else zero
    kind = [one, zero, one if flags & BITRATE_SWITCH else zero] if flags & FD else [zero]
    if not flags & EXTENDED:
        return np.hstack([zero, _number(ids, 11), remote, zero, *kind])
    kind = kind if flags & FD else [zero, zero]
    return np.hstack([zero, _number(ids >> 18, 11), one, one, _number(ids, 18), remote, *kind])


def _number(values: IntArray, bits: int) -> BitArray:
    """The lowest bits, most significant first: uint8[n, bits]."""
    return (values[:, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)


def _data(frames: Frames, length: int) -> BitArray:
    return np.unpackbits(np.ascontiguousarray(frames["data"][:, :length]), axis=1)


def _crc15(body: BitArray) -> BitArray:
    crc = np.zeros(len(body), np.uint16)
    for bit in _by_place(body):
        top = crc >> 14 ^ bit
        crc = crc << 1 & 0x7FFF ^ CRC15 * top
    return _number(crc.astype(np.int64), CRC15_BITS)


def _stuffed(body: BitArray) -> BitArray:
    """1 where a stuff bit follows. A stuff bit begins the next run itself."""
    bits = _by_place(body)
    found = np.zeros_like(bits)
    last, run = bits[0], np.ones(len(body), np.uint8)
    for bit, full in zip(bits[1:], found[1:], strict=True):
        run = run * (bit == last) + np.uint8(1)
        full[:] = run == 5
        run -= full << 2
        last = bit ^ full
    return found.T


def _by_place(body: BitArray) -> BitArray:
    """uint8[bits, n]: each place of all frames side by side in memory."""
    return np.ascontiguousarray(body.T)
