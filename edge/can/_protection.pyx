# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Checksums and counters of messages, as J1939, J1850 and AUTOSAR E2E define them (protection.py)."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

cdef enum:
    MAX_TABLES = 8

cdef enum:  # Protection.family
    NONE
    CRC8
    CRC16
    XOR
    SUM
    J1939_FOLD4
    J1939_FOLD3

cdef uint8_t crc8_tables[MAX_TABLES][256]
cdef uint16_t crc16_tables[MAX_TABLES][256]


def set_tables(const uint8_t[:, ::1] crc8, const uint16_t[:, ::1] crc16):
    """Take over the tables of the CRCs, shape (n, 256); protection.py computes them when it is imported.

    Raises ValueError where there are more than the kernel has room for.
    """
    cdef int n, i
    if max(crc8.shape[0], crc16.shape[0]) > MAX_TABLES or crc8.shape[1] != 256 or crc16.shape[1] != 256:
        raise ValueError(f"at most {MAX_TABLES} tables of 256 entries")
    for n in range(crc8.shape[0]):
        for i in range(256):
            crc8_tables[n][i] = crc8[n, i]
    for n in range(crc16.shape[0]):
        for i in range(256):
            crc16_tables[n][i] = crc16[n, i]


cdef inline int32_t read(const Field* f, const uint8_t* data) noexcept nogil:
    cdef uint32_t value = 0
    cdef int i
    if f.big_endian:
        for i in range(f.bytes):
            value = (value << 8) | data[f.first + i]
    else:
        for i in range(f.bytes - 1, -1, -1):
            value = (value << 8) | data[f.first + i]
    return <int32_t> ((value >> f.shift) & f.mask)


cdef inline uint8_t crc8(const Protection* p, const uint8_t* data, int counter) noexcept nogil:
    cdef const uint8_t* table = crc8_tables[p.table]
    cdef uint8_t value = <uint8_t> p.start
    cdef int i
    for i in range(p.n_before):
        value = table[value ^ p.before[i]]
    if p.listed == 1:
        value = table[value ^ p.ids[counter & 15]]
    for i in range(p.first, p.skip):
        value = table[value ^ data[i]]
    for i in range(p.skip_end, p.end):
        value = table[value ^ data[i]]
    if p.listed == 2:
        value = table[value ^ p.ids[counter & 15]]
    for i in range(p.n_after):
        value = table[value ^ p.after[i]]
    return value ^ <uint8_t> p.xor_out


cdef inline uint16_t crc16(const Protection* p, const uint8_t* data) noexcept nogil:
    cdef const uint16_t* table = crc16_tables[p.table]
    cdef uint16_t value = p.start
    cdef int i
    for i in range(p.n_before):
        value = <uint16_t> (value << 8) ^ table[(value >> 8) ^ p.before[i]]
    for i in range(p.first, p.skip):
        value = <uint16_t> (value << 8) ^ table[(value >> 8) ^ data[i]]
    for i in range(p.skip_end, p.end):
        value = <uint16_t> (value << 8) ^ table[(value >> 8) ^ data[i]]
    for i in range(p.n_after):
        value = <uint16_t> (value << 8) ^ table[(value >> 8) ^ p.after[i]]
    return value ^ p.xor_out


cdef inline uint32_t total(const Protection* p, const uint8_t* data) noexcept nogil:
    cdef uint32_t value = 0
    cdef int i
    for i in range(p.first, p.skip):
        value += data[i]
    for i in range(p.skip_end, p.end):
        value += data[i]
    return value


cdef inline uint8_t parity(const Protection* p, const uint8_t* data) noexcept nogil:
    cdef uint8_t value = 0
    cdef int i
    for i in range(p.first, p.skip):
        value ^= data[i]
    for i in range(p.skip_end, p.end):
        value ^= data[i]
    return value


cdef inline int32_t computed(
    const Protection* p, uint32_t frame_id, const uint8_t* data, int counter,
) noexcept nogil:
    """The checksum that the frame should have."""
    cdef uint32_t value
    if p.family == CRC8:
        return crc8(p, data, counter)
    if p.family == CRC16:
        return crc16(p, data)
    if p.family == XOR:
        return parity(p, data)
    value = total(p, data)
    if p.family == SUM:
        return value & 0xFF
    value += counter + (frame_id & 0xFF) + (frame_id >> 8 & 0xFF)
    value += (frame_id >> 16 & 0xFF) + (frame_id >> 24 & 0xFF)
    if p.family == J1939_FOLD4:
        return ((value >> 4) + value) & 0xF
    return ((value >> 6 & 3) + (value >> 3) + value) & 7


cdef int check(
    const Protection* p, ProtectionState* s, uint32_t frame_id, int64_t time_us,
    const uint8_t* data, int length,
) noexcept nogil:
    cdef int32_t counter = 0
    cdef int64_t since
    if length < p.needed:
        return BAD_CHECKSUM
    if p.counter.bytes:
        counter = read(&p.counter, data)
        if counter >= p.modulus:
            return BAD_CHECKSUM  # the standards forbid this value: no proof that the frame is whole
    if p.family != NONE:
        if read(&p.checksum, data) != computed(p, frame_id, data, counter):
            return BAD_CHECKSUM
        if p.nibble.bytes and read(&p.nibble, data) != p.nibble_value:
            return BAD_CHECKSUM
    if p.counter.bytes and s.started and counter == s.counter:
        since = time_us - s.time_us
        if -p.timeout_us <= since <= p.timeout_us:
            s.time_us = time_us
            return REPEATED_COUNTER
    return GOOD


cdef void accept(
    const Protection* p, ProtectionState* s, int64_t time_us, const uint8_t* data,
) noexcept nogil:
    cdef int32_t counter = 0, step
    cdef int64_t since = time_us - s.time_us
    if p.counter.bytes:
        counter = read(&p.counter, data)
        # After a silence nobody knows how often the counter went round: no guess.
        if s.started and -p.timeout_us <= since <= p.timeout_us:
            step = counter - s.counter
            if step <= 0:
                step += p.modulus
            s.skipped += step - 1
    s.counter = counter
    s.time_us = time_us
    s.started = 1


def check_frame(
    const Protection[::1] protection,
    ProtectionState[::1] state,
    uint32_t frame_id,
    int64_t time_us,
    const uint8_t[::1] data,
):
    """Check one frame and accept it where it is good: 0 good, 1 bad checksum, 2 repeated counter.

    `protection` and `state` have shape (1,); `data` is the frame's, as long as it is.
    """
    cdef uint8_t nothing = 0
    cdef const uint8_t* bytes_of = &data[0] if data.shape[0] else &nothing
    cdef int result = check(&protection[0], &state[0], frame_id, time_us, bytes_of, <int> data.shape[0])
    if result == GOOD:
        accept(&protection[0], &state[0], time_us, bytes_of)
    return result


def checksum_of(const Protection[::1] protection, uint32_t frame_id, const uint8_t[::1] data):
    """The checksum that a frame should have, for who sends one.

    Raises ValueError where the frame is too short.
    """
    cdef int32_t counter = 0
    if data.shape[0] < protection[0].needed or data.shape[0] == 0:
        raise ValueError("the frame is shorter than its protection needs")
    if protection[0].counter.bytes:
        counter = read(&protection[0].counter, &data[0])
    return computed(&protection[0], frame_id, &data[0], counter)
