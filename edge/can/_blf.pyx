# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The objects in a BLF container to frames. The format and its sources: edge/can/logs/blf.py.

    object = "LOBJ", header size u16, header version u16, object size u32, type u32,
             flags u32 (1: times in 10 us, else in ns), 4 bytes, time u64, [version 2: 8 bytes more], body
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from edge.can._frame cimport BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, OWN, REMOTE, Frame

REASONS = ("time", "length", "identifier", "channels", "object version")

cdef enum:
    SKIPPED = -2
    TAKEN = -1
    BAD_TIME = 0
    BAD_LENGTH
    BAD_ID
    TOO_MANY_CHANNELS
    BAD_VERSION
    N_REASONS
    DAMAGED

cdef enum:
    CAN_MESSAGE = 1
    CAN_ERROR = 2
    CAN_ERROR_EXT = 73
    CAN_MESSAGE2 = 86
    CAN_FD_MESSAGE = 100
    CAN_FD_MESSAGE_64 = 101
    CAN_FD_ERROR_64 = 104

cdef uint32_t EXTENDED_BIT = 0x80000000
cdef uint32_t ID_MASK = 0x1FFFFFFF
cdef uint64_t MAX_US = 1000000000000000000


cdef inline uint16_t u16(const uint8_t* p) noexcept nogil:
    return p[0] | p[1] << 8


cdef inline uint32_t u32(const uint8_t* p) noexcept nogil:
    return p[0] | p[1] << 8 | p[2] << 16 | <uint32_t> p[3] << 24


cdef inline uint64_t u64(const uint8_t* p) noexcept nogil:
    return u32(p) | <uint64_t> u32(p + 4) << 32


cdef class Parser:
    """Fills FRAME arrays from the bytes inside the containers.

    `start_us`: the log's start, added to every time. `channels`: the bus numbers met so far, as
    python-can counts them (from 0, where BLF counts from 1). `refused` counts the refused objects by
    reason; `damage` says why parsing can't go on, or is empty.
    """

    cdef readonly list channels
    cdef readonly str damage
    cdef uint64_t start_us
    cdef int64_t counts[N_REASONS]
    cdef int numbers[65536]  # of BLF -> ours + 1

    def __init__(self, start_us):
        self.channels = []
        self.damage = ""
        self.start_us = start_us
        memset(self.counts, 0, sizeof(self.counts))
        memset(self.numbers, 0, sizeof(self.numbers))

    @property
    def refused(self):
        return {REASONS[n]: self.counts[n] for n in range(N_REASONS) if self.counts[n]}

    def parse(self, const uint8_t[::1] block, Py_ssize_t begin, Frame[::1] frames):
        """Whole objects of the block from `begin` -> (where it stopped, frames filled).

        It stops where the frames are full, before an object that is not whole, or at damage.
        """
        cdef Py_ssize_t at = begin, end = block.shape[0], used = 0, room = frames.shape[0], skip, size
        cdef const uint8_t* p
        cdef int done = SKIPPED
        if end - begin < 16:
            return begin, 0
        with nogil:
            while used < room and end - at >= 16:
                p = &block[at]
                skip = 0  # padding: its length depends on who wrote the object before
                while skip <= 4 and memcmp(p + skip, b"LOBJ", 4) != 0:
                    skip += 1
                if skip > 4:
                    done = DAMAGED
                    break
                if end - at - skip < 16:
                    break
                p += skip
                size = u32(p + 8)
                if size < 16:
                    done = DAMAGED
                    break
                if size > end - at - skip:
                    break
                done = self.object(p, size, &frames[used])
                if done == DAMAGED:
                    break
                if done == TAKEN:
                    used += 1
                elif done >= 0:
                    self.counts[done] += 1
                at += skip + size
        if done == DAMAGED:
            self.damage = f"an object of {size} bytes" if skip <= 4 else "no object where one must begin"
        return at, used

    cdef int number(self, int channel) noexcept nogil:
        """Our number of a BLF channel, -1 where there are too many."""
        if self.numbers[channel] == 0:
            with gil:
                if len(self.channels) < 256:
                    self.channels.append(channel - 1)
                    self.numbers[channel] = len(self.channels)
        return self.numbers[channel] - 1

    cdef int object(self, const uint8_t* p, Py_ssize_t size, Frame* f) noexcept nogil:
        cdef uint32_t kind = u32(p + 12), version = u16(p + 6)
        cdef Py_ssize_t head = 32 if version == 1 else 40
        cdef uint64_t time
        cdef int number
        if kind > CAN_FD_ERROR_64 or not (
            kind == CAN_MESSAGE or kind == CAN_MESSAGE2 or kind >= CAN_FD_MESSAGE
            or kind == CAN_ERROR_EXT or kind == CAN_ERROR
        ):
            return SKIPPED
        if kind == 102 or kind == 103:
            return SKIPPED
        if version != 1 and version != 2:
            return BAD_VERSION
        if size < head:
            return DAMAGED
        time = u64(p + 24)
        if u32(p + 16) == 1:
            if time > MAX_US // 10:
                return BAD_TIME
            time *= 10
        else:
            time = time // 1000 + (1 if time % 1000 >= 500 else 0)
        if time > MAX_US - self.start_us:
            return BAD_TIME
        memset(f, 0, sizeof(Frame))
        f.time_us = <int64_t> (self.start_us + time)
        number = body(kind, p + head, size - head, u16(p + 4), f)
        if number < 0:
            return BAD_LENGTH if number == -1 else DAMAGED
        if f.id > 0x7FF and not f.flags & (EXTENDED | ERROR):
            return BAD_ID
        if f.length > 8 and not f.flags & FD:
            return BAD_LENGTH
        number = self.number(number)
        if number < 0:
            return TOO_MANY_CHANNELS
        f.channel = <uint8_t> number
        return TAKEN


cdef inline void identify(Frame* f, uint32_t value) noexcept nogil:
    f.id = value & ID_MASK
    if value & EXTENDED_BIT:
        f.flags |= EXTENDED


cdef inline int body(
    uint32_t kind, const uint8_t* p, Py_ssize_t size, Py_ssize_t header_size, Frame* f
) noexcept nogil:
    """Fill all but time and channel -> the BLF channel; -1: impossible length, -2: short object."""
    cdef uint32_t flags
    cdef Py_ssize_t there, offset
    if kind == CAN_MESSAGE or kind == CAN_MESSAGE2:
        if size < 16:
            return -2
        identify(f, u32(p + 4))
        f.length = p[3] if p[3] < 8 else 8
        if p[2] & 1:
            f.flags |= OWN
        if p[2] & 0x80:
            f.flags |= REMOTE
        else:
            memcpy(f.data, p + 8, f.length)
        return u16(p)
    if kind == CAN_FD_MESSAGE:
        if size < 20:
            return -2
        identify(f, u32(p + 4))
        flags = p[13]
        if p[2] & 1:
            f.flags |= OWN
        f.flags |= (FD if flags & 1 else 0) | (BITRATE_SWITCH if flags & 2 else 0) | (
            ERROR_STATE if flags & 4 else 0)
        there = p[14]
        if there > 64:
            there = 64
        if p[2] & 0x80:
            f.flags |= REMOTE
            f.length = p[3] if p[3] < 8 else 8
        else:
            f.length = <uint8_t> there
            memcpy(f.data, p + 20, min(there, size - 20))
        return u16(p)
    if kind == CAN_FD_MESSAGE_64:
        if size < 40:
            return -2
        if p[2] > 64:
            return -1
        identify(f, u32(p + 4))
        flags = u32(p + 12)
        f.flags |= (FD if flags & 0x1000 else 0) | (BITRATE_SWITCH if flags & 0x2000 else 0) | (
            ERROR_STATE if flags & 0x4000 else 0) | (OWN if p[34] else 0)
        if flags & 0x10:
            f.flags |= REMOTE
            f.length = p[1] if p[1] < 8 else 8
            return p[0]
        f.length = p[2]
        there = size - 40
        offset = p[35]  # where extended data begins, from the object's beginning
        if offset:
            there = min(there, offset - header_size - 40)
        there = min(there, <Py_ssize_t> p[2])
        if there > 0:
            memcpy(f.data, p + 40, there)
        return p[0]
    f.flags |= ERROR
    if kind == CAN_ERROR_EXT:
        if size < 32:
            return -2
        identify(f, u32(p + 16))
        f.length = p[10] if p[10] < 8 else 8
        memcpy(f.data, p + 24, f.length)
        return u16(p)
    if size < 2:
        return -2
    return u16(p) if kind == CAN_ERROR else p[0]
