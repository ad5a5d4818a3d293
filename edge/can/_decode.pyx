# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The decoding kernel: FRAME arrays through compiled tables. See edge/can/decoder.py for the tables."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from edge.can._protection cimport BAD_CHECKSUM, Protection, ProtectionState, accept, check

cdef packed struct Frame:
    int64_t time_us
    uint32_t id
    uint8_t channel
    uint8_t flags
    uint8_t length
    uint8_t pad
    uint8_t data[64]

cdef packed struct Message:
    int32_t length
    int32_t first        # its signals: first .. first + count
    int32_t count
    int32_t muxes        # number of multiplexer signals
    int32_t fallback     # 1: tables can't do it

cdef packed struct Signal:
    int32_t start
    int32_t bits
    int32_t big_endian
    int32_t kind         # 0 unsigned, 1 signed, 2 float32, 3 float64
    int32_t parent       # index of its multiplexer, or -1
    int32_t first_range  # multiplexer values at which it is there
    int32_t ranges
    int32_t is_mux
    double scale
    double offset

cdef int64_t J1939_KEY = <int64_t> 1 << 40

cdef enum:
    EXTENDED = 1
    REMOTE = 2
    ERROR = 4

cdef enum:  # columns of the counts; edge/can/decoder.py names them
    RECEIVED
    DECODED
    UNKNOWN
    TOO_SHORT
    BAD_SUM
    REPEATED
    BAD_MUX
    ERRORS
    REMOTES
    FALLBACK


cdef inline int find(const int64_t[::1] keys, int64_t key) noexcept nogil:
    cdef Py_ssize_t low = 0, high = keys.shape[0], middle
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    if low < keys.shape[0] and keys[low] == key:
        return <int> low
    return -1


cdef inline uint64_t extract(const uint8_t* data, const Signal* s) noexcept nogil:
    cdef int byte = s.start >> 3, bit = s.start & 7, got, need
    cdef uint64_t value
    if s.big_endian:
        got = bit + 1
        value = data[byte] & ((1 << got) - 1)
        if got > s.bits:
            return value >> (got - s.bits)
        while got < s.bits:
            byte += 1
            need = s.bits - got
            if need >= 8:
                value = (value << 8) | data[byte]
                got += 8
            else:
                value = (value << need) | (data[byte] >> (8 - need))
                got = s.bits
        return value
    value = data[byte] >> bit
    got = 8 - bit
    while got < s.bits:
        byte += 1
        value |= (<uint64_t> data[byte]) << got
        got += 8
    if s.bits < 64:
        value &= ((<uint64_t> 1) << s.bits) - 1
    return value


cdef inline int64_t widen(uint64_t value, const Signal* s) noexcept nogil:
    """The raw value: sign extended; floats as the bits of a binary64."""
    cdef float single
    cdef double wide
    cdef uint32_t half
    cdef int64_t result
    if s.kind == 1 and s.bits < 64 and (value >> (s.bits - 1)) & 1:
        return <int64_t> (value | ~((((<uint64_t> 1) << s.bits)) - 1))
    if s.kind == 2:
        half = <uint32_t> value
        memcpy(&single, &half, 4)
        wide = single
        memcpy(&result, &wide, 8)
        return result
    return <int64_t> value


cdef inline double physical(int64_t raw, const Signal* s) noexcept nogil:
    cdef double number
    if s.kind >= 2:
        memcpy(&number, &raw, 8)
    elif s.kind == 0 and s.bits == 64:
        number = <double> (<uint64_t> raw)
    else:
        number = <double> raw
    return number * s.scale + s.offset


def decode(
    const Frame[::1] frames,
    const int64_t[::1] keys,
    const Message[::1] messages,
    const Signal[::1] signals,
    const int64_t[:, ::1] ranges,
    const Protection[::1] protections,
    ProtectionState[::1] states,
    int64_t[::1] raws,
    double[::1] values,
    int64_t[::1] times,
    uint8_t[::1] seen,
    int64_t[:, ::1] counts,
    int32_t[::1] scratch,
    int64_t[::1] found,
    int32_t[::1] event_slot,
    int32_t[::1] event_frame,
    int32_t[::1] fallback,
):
    """Decode frames into the latest-value table, each entirely or not at all.

    `scratch` and `found` have room for the signals of the largest message. Where `event_slot` is not
    empty, what was decoded is also listed there as (slot, frame) with its raw value in `raws` only for
    the newest; the caller then passes one frame at a time. Frames for the fallback are listed in
    `fallback`. Returns (number of events, number of fallback frames).
    """
    cdef Py_ssize_t n, events = 0, left = 0
    cdef int m, i, k, r, unmatched, verdict
    cdef int64_t key, pgn
    cdef const Frame* f
    cdef const Message* message
    cdef const Signal* s
    cdef bint inside
    with nogil:
        for n in range(frames.shape[0]):
            f = &frames[n]
            if f.channel >= counts.shape[0]:
                continue
            counts[f.channel, RECEIVED] += 1
            if f.flags & ERROR:
                counts[f.channel, ERRORS] += 1
                continue
            if f.flags & REMOTE:
                counts[f.channel, REMOTES] += 1
                continue
            key = (<int64_t> f.channel << 48) | f.id | ((<int64_t> (f.flags & EXTENDED)) << 31)
            m = find(keys, key)
            if m < 0 and f.flags & EXTENDED:
                pgn = (f.id >> 8) & 0x3FFFF
                if ((pgn >> 8) & 0xFF) < 240:
                    pgn &= 0x3FF00
                m = find(keys, (<int64_t> f.channel << 48) | J1939_KEY | pgn)
            if m < 0:
                counts[f.channel, UNKNOWN] += 1
                continue
            message = &messages[m]
            if f.length < message.length:
                counts[f.channel, TOO_SHORT] += 1
                continue
            if message.fallback:
                fallback[left] = <int32_t> n
                left += 1
                continue
            verdict = check(&protections[m], &states[m], f.id, f.time_us, &f.data[0], f.length)
            if verdict:
                counts[f.channel, BAD_SUM if verdict == BAD_CHECKSUM else REPEATED] += 1
                continue
            # First find everything, then apply: a frame is decoded entirely or not at all.
            unmatched = 0
            for i in range(message.count):
                k = message.first + i
                s = &signals[k]
                found[i] = 0
                scratch[i] = 0
                if s.parent >= 0:
                    if not scratch[s.parent - message.first]:
                        continue
                    inside = False
                    for r in range(s.first_range, s.first_range + s.ranges):
                        if ranges[r, 0] <= found[s.parent - message.first] <= ranges[r, 1]:
                            inside = True
                            break
                    if not inside:
                        continue
                    if scratch[s.parent - message.first] == 2:
                        scratch[s.parent - message.first] = 3
                        unmatched -= 1
                found[i] = widen(extract(&f.data[0], s), s)
                scratch[i] = 1
                if s.is_mux:
                    scratch[i] = 2
                    unmatched += 1
            if unmatched:
                counts[f.channel, BAD_MUX] += 1
                continue
            accept(&protections[m], &states[m], f.time_us, &f.data[0])
            counts[f.channel, DECODED] += 1
            for i in range(message.count):
                if not scratch[i]:
                    continue
                k = message.first + i
                raws[k] = found[i]
                values[k] = physical(found[i], &signals[k])
                times[k] = f.time_us
                seen[k] = 1
                if event_slot.shape[0]:
                    event_slot[events] = k
                    event_frame[events] = <int32_t> n
                    events += 1
    return events, left
