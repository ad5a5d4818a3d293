# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""One second of scheduled messages to FRAMEs. The plain twin: tests/sim_bus/ecus/twin.py.

A message is sent at base + n * period + jitter[n] for n = 0, 1, 2 ... while that is before its `until`; a
jitter is less than half a period, so its frames never overtake each other. A frame carries the state at the
end of the step that it falls in. Of each field

    raw = round((value - offset) / scale), half to even, held between low and high;
          `missing` where the value is NaN, or the node started less than `delay` ago

is laid at its bit in little-endian words, over the layout's own bits (the number of a page). Then the
counter, and the checksum over the other bytes.
"""

from libc.math cimport rint
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from edge.can._frame cimport Frame

cdef enum:
    WORDS = 8

cdef packed struct Message:
    int64_t period_us
    int64_t boot_us
    int64_t base_us
    int64_t until_us
    int64_t sent
    int64_t drawn
    uint32_t id
    uint8_t channel
    uint8_t flags
    uint8_t length
    uint8_t counter
    int16_t counter_bit
    int16_t counter_last
    int16_t checksum_byte
    int16_t page
    int32_t pages
    int32_t layout

cdef packed struct Layout:
    int32_t first
    int32_t last
    uint64_t words[WORDS]

cdef packed struct Field:
    double scale
    double offset
    int64_t low
    int64_t high
    uint64_t missing
    uint64_t mask
    int64_t delay_us
    int32_t slot
    int32_t start

cdef uint8_t CRC[256]


cdef void fill_table() noexcept:
    cdef int value, _bit, crc
    for value in range(256):
        crc = value
        for _bit in range(8):
            crc = (crc << 1) ^ 0x1D if crc & 0x80 else crc << 1
        CRC[value] = crc & 0xFF


fill_table()


def crc8_sae_j1850(const uint8_t[::1] data not None):
    """CRC-8 SAE J1850: polynomial 0x1D, initial and final 0xFF."""
    return checksum(&data[0], <int> data.shape[0], -1) if data.shape[0] else 0


cdef uint8_t checksum(const uint8_t* data, int length, int without) noexcept nogil:
    cdef uint8_t value = 0xFF
    cdef int n
    for n in range(length):
        if n != without:
            value = CRC[value ^ data[n]]
    return value ^ 0xFF


cdef inline void place(uint64_t* words, int start, uint64_t raw) noexcept nogil:
    cdef int word = start >> 6, bit = start & 63
    words[word] |= raw << bit
    if bit and word + 1 < WORDS:
        words[word + 1] |= raw >> (64 - bit)


cdef inline uint64_t raw_of(const Field* field, double value) noexcept nogil:
    cdef double raw
    if value != value:
        return field.missing
    raw = (value - field.offset) / field.scale
    if raw <= field.low:
        return <uint64_t> field.low & field.mask
    if raw >= field.high:
        return <uint64_t> field.high & field.mask
    return <uint64_t> <int64_t> rint(raw) & field.mask


cdef class Encoder:
    """Messages, layouts and fields as `layout.py` describes them; `jitter_us` is (messages, any)."""

    cdef Message[::1] messages
    cdef const Layout[::1] layouts
    cdef const Field[::1] fields
    cdef const double[:, ::1] jitter_us

    def __init__(self, messages, layouts, fields, jitter_us):
        self.messages, self.layouts, self.fields, self.jitter_us = messages, layouts, fields, jitter_us

    def encode(
        self, int64_t begin_us, int64_t step_us, const double[:, ::1] state, Frame[::1] out, int64_t[::1] ends,
    ):
        """Fill `out` with the second's frames, by message; those of message m end at `ends[m]`.

        `state` is (steps, slots); `out` must be zero and hold all that can come. Returns how many came.
        """
        cdef int m
        cdef int64_t n = 0
        for m in range(self.messages.shape[0]):
            n = self.send(&self.messages[m], &self.jitter_us[m, 0], begin_us, step_us, state, out, n)
            ends[m] = n
        return n

    cdef int64_t send(
        self, Message* message, const double* jitter_us, int64_t begin_us, int64_t step_us,
        const double[:, ::1] state, Frame[::1] out, int64_t n,
    ) noexcept:
        cdef int64_t at, step
        while n < out.shape[0]:
            at = message.base_us + message.sent * message.period_us + <int64_t> rint(jitter_us[message.drawn])
            at = max(at, message.boot_us)
            if at >= message.until_us:
                break
            step = min(max((at - begin_us) // step_us, 0), state.shape[0] - 1)
            self.fill(message, at, &state[step, 0], &out[n])
            message.sent += 1
            message.drawn += 1
            n += 1
        return n

    cdef void fill(self, Message* message, int64_t at, const double* state, Frame* frame) noexcept:
        cdef const Layout* layout = &self.layouts[message.layout + message.page]
        cdef const Field* field
        cdef uint64_t words[WORDS]
        cdef int f
        memcpy(words, layout.words, sizeof(words))
        for f in range(layout.first, layout.last):
            field = &self.fields[f]
            if at < message.boot_us + field.delay_us:
                place(words, field.start, field.missing)
            else:
                place(words, field.start, raw_of(field, state[field.slot]))
        if message.counter_bit >= 0:
            place(words, message.counter_bit, message.counter)
            message.counter = 0 if message.counter >= message.counter_last else message.counter + 1
        message.page = (message.page + 1) % message.pages
        frame.time_us, frame.id, frame.channel = at, message.id, message.channel
        frame.flags, frame.length = message.flags, message.length
        memcpy(frame.data, words, message.length)
        if message.checksum_byte >= 0:
            frame.data[message.checksum_byte] = checksum(frame.data, message.length, message.checksum_byte)
