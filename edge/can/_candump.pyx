# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""candump lines to frames and back. The format, what is refused and why: edge/can/logs/candump.py.

    line   = "(" seconds ["." fraction] ")" channel frame [direction]
    frame  = id "#" (data ["_" dlc] | "R" [length ["_" dlc]] | "#" flags data)
    id     = 3 hex digits (11 bit), else 29 bit with bit 29 = error frame (then bit 31 = 29 bit id)
"""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

from edge.can._frame cimport BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, OWN, REMOTE, Frame

REASONS = ("malformed", "time", "identifier", "length", "CAN XL", "channels", "line too long")
LINE_MAX = 176

cdef enum:  # a line: a frame, nothing, or why it is refused (its place in REASONS)
    BLANK = -2
    TAKEN = -1
    MALFORMED = 0
    BAD_TIME
    BAD_ID
    BAD_LENGTH
    XL
    TOO_MANY_CHANNELS
    TOO_LONG
    N_REASONS

cdef enum:
    MAX_CHANNELS = 256
    LONGEST = 176  # without the channel's name: "(13.6) " + 9 of id, "##F", 128 of data, " T\n"

cdef uint32_t ERROR_BIT = 0x20000000
cdef uint32_t EXTENDED_BIT = 0x80000000
cdef uint32_t ID_MASK = 0x1FFFFFFF
cdef int64_t MAX_SECONDS = 1000000000000

cdef int8_t HEX[256]
cdef uint8_t PAIR[512]  # "00" to "FF"
cdef int64_t POWER[13]

memset(HEX, 0xFF, 256)
for n in range(16):
    HEX[ord("0123456789abcdef"[n])] = HEX[ord("0123456789ABCDEF"[n])] = n
for n in range(256):
    PAIR[2 * n], PAIR[2 * n + 1] = map(ord, f"{n:02X}")
for n in range(13):
    POWER[n] = 10 ** n


cdef inline bint is_space(uint8_t c) noexcept nogil:
    return c == 32 or c == 9 or c == 13


cdef inline bint is_digit(uint8_t c) noexcept nogil:
    return 48 <= c <= 57


cdef class Parser:
    """Fills FRAME arrays from a candump log's bytes.

    `channels` are the names met so far, as bytes; `refused` counts the refused lines by reason.
    """

    cdef readonly list channels
    cdef int64_t counts[N_REASONS]
    cdef const uint8_t* names[MAX_CHANNELS]
    cdef Py_ssize_t sizes[MAX_CHANNELS]
    cdef int recent[64]  # a name's hash -> the channel that had it last
    cdef int known

    def __init__(self):
        self.channels = []
        self.known = 0
        memset(self.counts, 0, sizeof(self.counts))
        memset(self.recent, 0, sizeof(self.recent))

    @property
    def refused(self):
        return {REASONS[n]: self.counts[n] for n in range(N_REASONS) if self.counts[n]}

    def refuse_long_line(self):
        self.counts[TOO_LONG] += 1

    def parse(self, const uint8_t[::1] block, Py_ssize_t begin, Frame[::1] frames):
        """Whole lines of the block from `begin` -> (where it stopped, frames filled).

        It stops where the frames are full, or after the last newline.
        """
        cdef Py_ssize_t at = begin, end = block.shape[0], used = 0, room = frames.shape[0]
        cdef const uint8_t* text
        cdef const uint8_t* stop
        cdef int done
        if end == 0:
            return 0, 0
        with nogil:
            text = &block[0]
            while at < end and used < room:
                stop = <const uint8_t*> memchr(text + at, 10, end - at)
                if stop == NULL:
                    break
                done = self.line(text + at, stop, &frames[used])
                if done == TAKEN:
                    used += 1
                elif done >= 0:
                    self.counts[done] += 1
                at = stop - text + 1
        return at, used

    cdef int channel(self, const uint8_t* name, Py_ssize_t size) noexcept nogil:
        cdef int slot = (name[size - 1] ^ (name[0] << 2) ^ <int> size) & 63, n = self.recent[slot]
        if n < self.known and self.sizes[n] == size and memcmp(self.names[n], name, size) == 0:
            return n
        for n in range(self.known):
            if self.sizes[n] == size and memcmp(self.names[n], name, size) == 0:
                self.recent[slot] = n
                return n
        if self.known == MAX_CHANNELS:
            return -1
        with gil:
            self.add(name[:size])
        self.recent[slot] = self.known - 1
        return self.known - 1

    cdef void add(self, bytes name) noexcept:
        self.channels.append(name)  # keeps the bytes that names[] points into
        self.names[self.known], self.sizes[self.known] = name, len(name)
        self.known += 1

    cdef int line(self, const uint8_t* p, const uint8_t* stop, Frame* f) noexcept nogil:
        """One line, up to its newline at `stop`, which ends every loop over digits."""
        cdef const uint8_t* name
        cdef Py_ssize_t size
        cdef int error, channel
        cdef int64_t time_us = 0
        while p < stop and is_space((stop - 1)[0]):
            stop -= 1
        while p < stop and is_space(p[0]):
            p += 1
        if p == stop:
            return BLANK
        memset(f, 0, sizeof(Frame))
        error = read_time(&p, stop, &time_us)
        if error != TAKEN:
            return error
        f.time_us = time_us
        name = p
        while p < stop and not is_space(p[0]):
            p += 1
        size = p - name
        if p == stop or size == 0:
            return MALFORMED
        while is_space(p[0]):
            p += 1
        error = read_frame(p, stop, f)
        if error != TAKEN:
            return error
        channel = self.channel(name, size)  # last: a refused line adds no channel
        if channel < 0:
            return TOO_MANY_CHANNELS
        f.channel = <uint8_t> channel
        return TAKEN


cdef inline int read_time(const uint8_t** at, const uint8_t* stop, int64_t* time_us) noexcept nogil:
    """"(seconds.fraction)" and the spaces behind it; more than 6 places are rounded to the nearest."""
    cdef const uint8_t* p = at[0]
    cdef int64_t seconds = 0, fraction = 0
    cdef int places = 0, digits = 0
    if p[0] != 40:
        return MALFORMED
    p += 1
    while p < stop and is_digit(p[0]) and digits < 19:
        seconds = seconds * 10 + (p[0] - 48)
        if seconds > MAX_SECONDS:
            return BAD_TIME
        p += 1
        digits += 1
    if digits == 0:
        return BAD_TIME if p < stop and p[0] == 45 else MALFORMED
    if p < stop and p[0] == 46:
        p += 1
        while p < stop and is_digit(p[0]):
            if places < 6:
                fraction = fraction * 10 + (p[0] - 48)
            elif places == 6 and p[0] >= 53:
                fraction += 1
            places += 1
            p += 1
    if p >= stop or p[0] != 41:
        return MALFORMED
    p += 1
    if p >= stop or not is_space(p[0]):
        return MALFORMED
    while p < stop and is_space(p[0]):
        p += 1
    time_us[0] = seconds * 1000000 + (fraction * POWER[6 - places] if places < 6 else fraction)
    if time_us[0] > MAX_SECONDS * 1000000:
        return BAD_TIME
    at[0] = p
    return TAKEN


cdef inline int read_frame(const uint8_t* p, const uint8_t* stop, Frame* f) noexcept nogil:
    cdef uint64_t value = 0
    cdef int digits = 0, n = 0, high, low, most = 8
    cdef uint8_t c
    while p < stop and HEX[p[0]] >= 0 and digits < 9:
        value = value << 4 | HEX[p[0]]
        p += 1
        digits += 1
    if digits > 8:
        return BAD_ID
    if digits == 0 or p >= stop or p[0] != 35:
        return MALFORMED
    p += 1
    if digits <= 3:
        if value > 0x7FF:
            return BAD_ID
    elif value & ERROR_BIT:
        f.flags |= ERROR
        if value & EXTENDED_BIT:
            f.flags |= EXTENDED
        if value & 0x40000000:
            return BAD_ID
    else:
        f.flags |= EXTENDED
        if value > ID_MASK:
            return BAD_ID
    f.id = <uint32_t> (value & ID_MASK)

    if p < stop and p[0] == 35:
        if p + 1 >= stop or HEX[p[1]] < 0:
            return MALFORMED
        high = HEX[p[1]]
        f.flags |= FD | (BITRATE_SWITCH if high & 1 else 0) | (ERROR_STATE if high & 2 else 0)
        p += 2
        most = 64
    if most == 8 and p < stop and (p[0] | 32) == 114:
        f.flags |= REMOTE
        p += 1
        if p < stop and is_digit(p[0]):
            f.length = p[0] - 48
            p += 1
            if f.length > 8:
                return BAD_LENGTH
        n = f.length
    else:
        while stop - p >= 2:
            high, low = HEX[p[0]], HEX[p[1]]
            if high < 0 or low < 0:
                break
            if n == most:
                return BAD_LENGTH
            f.data[n] = <uint8_t> (high << 4 | low)
            n += 1
            p += 2
        f.length = <uint8_t> n
    if p == stop:
        return TAKEN
    if p[0] == 95 and n == 8 and most == 8 and stop - p >= 2 and HEX[p[1]] > 8:  # a DLC code over 8
        p += 2
        if p == stop:
            return TAKEN
    if not is_space(p[0]):
        return XL if p[0] == 58 and n == 1 and most == 8 else MALFORMED
    while is_space(p[0]):
        p += 1
    c = p[0] | 32
    if stop - p != 1 or (c != 114 and c != 116):
        return MALFORMED
    if c == 116:
        f.flags |= OWN
    return TAKEN


cdef inline bint writable(const Frame* f, Py_ssize_t channels) noexcept nogil:
    """Only what the parser reads back as it was."""
    cdef int most = 64 if f.flags & FD else 8
    if f.time_us < 0 or f.time_us > MAX_SECONDS * 1000000 or f.channel >= channels or f.length > most:
        return False
    if f.id > (ID_MASK if f.flags & (EXTENDED | ERROR) else 0x7FF):
        return False
    if f.flags & FD:
        return not f.flags & REMOTE
    return not f.flags & (BITRATE_SWITCH | ERROR_STATE)


def format(const Frame[::1] frames, list names, uint8_t[::1] out):
    """Frames as lines into `out` -> (bytes written, frames written).

    It stops where `out` has no room for the longest line, or before a frame that candump can't say.
    """
    cdef Py_ssize_t n = 0, size, count = frames.shape[0], longest = 0, channels = len(names)
    cdef const uint8_t* name[MAX_CHANNELS]
    cdef Py_ssize_t name_size[MAX_CHANNELS]
    cdef uint8_t* p
    cdef uint8_t* last
    for n in range(channels):
        name[n], name_size[n] = <bytes> names[n], len(names[n])
        longest = max(longest, name_size[n])
    if count == 0 or out.shape[0] < longest + LONGEST:
        return 0, 0
    n = 0
    with nogil:
        p = &out[0]
        last = p + out.shape[0] - longest - LONGEST
        while n < count and p <= last and writable(&frames[n], channels):
            size = name_size[frames[n].channel]
            p = write_line(p, &frames[n], name[frames[n].channel], size)
            n += 1
        size = p - &out[0]
    return size, n


cdef inline uint8_t* write_decimal(uint8_t* p, uint64_t value, int digits) noexcept nogil:
    cdef int n
    for n in range(digits - 1, -1, -1):
        p[n] = <uint8_t> (48 + value % 10)
        value //= 10
    return p + digits


cdef inline uint8_t* write_line(
    uint8_t* p, const Frame* f, const uint8_t* name, Py_ssize_t size
) noexcept nogil:
    cdef uint64_t seconds = <uint64_t> f.time_us // 1000000
    cdef uint32_t value = f.id
    cdef int n, digits = 10
    while digits < 13 and seconds >= <uint64_t> POWER[digits]:
        digits += 1
    p[0] = 40
    p = write_decimal(p + 1, seconds, digits)
    p[0] = 46
    p = write_decimal(p + 1, <uint64_t> f.time_us % 1000000, 6)
    p[0] = 41
    p[1] = 32
    memcpy(p + 2, name, size)
    p += 2 + size
    p[0] = 32
    p += 1
    if f.flags & (EXTENDED | ERROR):
        if f.flags & ERROR:
            value |= ERROR_BIT | (EXTENDED_BIT if f.flags & EXTENDED else 0)
        for n in range(4):
            memcpy(p + 2 * n, &PAIR[2 * ((value >> (24 - 8 * n)) & 0xFF)], 2)
        p += 8
    else:
        p[0] = PAIR[2 * (value >> 8) + 1]
        memcpy(p + 1, &PAIR[2 * (value & 0xFF)], 2)
        p += 3
    p[0] = 35
    p += 1
    if f.flags & FD:
        p[0] = 35
        p[1] = 48 + (1 if f.flags & BITRATE_SWITCH else 0) + (2 if f.flags & ERROR_STATE else 0)
        p += 2
    if f.flags & REMOTE:
        p[0] = 82
        p += 1
        if f.length:
            p[0] = 48 + f.length
            p += 1
    else:
        for n in range(f.length):
            memcpy(p + 2 * n, &PAIR[2 * f.data[n]], 2)
        p += 2 * f.length
    if f.flags & OWN:
        p[0] = 32
        p[1] = 84
        p += 2
    p[0] = 10
    return p + 1
