# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Decoded signals as lines of text. See edge/can/writers.py for the two formats.

Everything that repeats is rendered once, by Python's own csv and json: heads of channels, messages and
signals, and each value, which is kept under its (slot, raw, state). A value's text is a function of these
three, so a slot that moves little costs a look-up. What is left is the frame's time and identifier.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, strlen

from edge.can._frame cimport Frame

cdef extern from "Python.h":
    enum:
        Py_DTSF_ADD_DOT_0
    char* PyOS_double_to_string(
        double value, char format_code, int precision, int flags, int* kind
    ) except NULL

cdef struct Kept:
    int64_t raw
    int32_t slot  # -1: empty
    int32_t state

cdef enum:
    GOOD = 1  # edge/signals/validity.py
    KEPT = 1 << 16  # values whose text is kept: a power of two
    EXACT_FROM_US = 100  # below, repr writes an exponent

cdef int64_t EXACT_TO_US = 4_000_000_000 * 1_000_000  # beyond, doubles lie further apart than 1 us


cdef inline Py_ssize_t digits(char* at, uint64_t n) noexcept:
    """Write a number; how many digits it has."""
    cdef char reverse[20]
    cdef Py_ssize_t length = 0, i
    while True:
        reverse[length] = <char> (48 + n % 10)
        length += 1
        n //= 10
        if n == 0:
            break
    for i in range(length):
        at[i] = reverse[length - 1 - i]
    return length


cdef bytes repr_of(double value):
    cdef char* text = PyOS_double_to_string(value, 114, 0, Py_DTSF_ADD_DOT_0, NULL)  # 114: r, as repr does
    cdef bytes result = PyBytes_FromStringAndSize(text, strlen(text))
    PyMem_Free(text)
    return result


cdef class TextRows:
    """Rows of decoded signals as bytes: a line for each (`flat`), or one for each message.

    A flat line: frame head, slot head, value, CR LF. A line of a message: frame head, message head,
    the slot heads with their values, separated by ", ", and two closing braces. The frame head is
    `before_time`, time in s, the channel's head, the identifier, `after_id`.
    """

    cdef bint flat
    cdef bytes before_time, after_id
    cdef object text_of
    cdef list channel_heads, message_heads, slot_heads, groups, floats, texts
    cdef Kept* kept
    cdef char* buffer
    cdef Py_ssize_t used, room

    def __init__(self, flat, before_time, after_id, text_of):
        self.flat, self.before_time, self.after_id, self.text_of = flat, before_time, after_id, text_of
        self.channel_heads, self.message_heads, self.slot_heads, self.groups, self.floats = [], [], [], [], []
        self.texts = [b""] * KEPT

    def __cinit__(self):
        cdef int i
        self.kept = <Kept*> PyMem_Malloc(KEPT * sizeof(Kept))
        if self.kept == NULL:
            raise MemoryError
        for i in range(KEPT):
            self.kept[i].slot = -1

    def __dealloc__(self):
        PyMem_Free(self.kept)
        PyMem_Free(self.buffer)

    def add_channel(self, bytes head):
        """What stands between time and identifier on the next channel."""
        self.channel_heads.append(head)

    def add_slot(self, int group, bint floats, bytes message_head, bytes slot_head):
        """The next slot: its message (slots of one group share a line), whether all its good values are
        floats, and what stands before them."""
        self.floats.append(floats)
        self.groups.append(group)
        self.message_heads.append(message_head)
        self.slot_heads.append(slot_head)

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef char* grown
        if self.buffer == NULL or self.used + more > self.room:
            self.room = 2 * (self.used + more) + 65536
            grown = <char*> PyMem_Realloc(self.buffer, self.room)
            if grown == NULL:
                raise MemoryError
            self.buffer = grown
        return 0

    cdef inline int add(self, bytes piece) except -1:
        cdef Py_ssize_t length = PyBytes_GET_SIZE(piece)
        self.reserve(length)
        memcpy(self.buffer + self.used, PyBytes_AS_STRING(piece), length)
        self.used += length
        return 0

    cdef int add_time(self, int64_t time_us) except -1:
        """repr(time_us / 1e6): a double holds each microsecond of our age, so its digits are the shortest."""
        cdef int64_t fraction = time_us % 1_000_000
        cdef int place
        if time_us != 0 and not EXACT_FROM_US <= time_us < EXACT_TO_US:
            self.add(repr(time_us / 1e6).encode())
            return 0
        self.reserve(32)
        self.used += digits(self.buffer + self.used, time_us // 1_000_000)
        self.buffer[self.used] = 46
        self.used += 1
        for place in range(6):
            self.buffer[self.used + place] = <char> (48 + fraction // 100_000)
            fraction = fraction % 100_000 * 10
        self.used += 6
        while self.buffer[self.used - 1] == 48 and self.buffer[self.used - 2] != 46:
            self.used -= 1
        return 0

    cdef bytes value_text(self, int32_t slot, int64_t raw, double value, uint8_t state):
        """The value's text, kept; a slot of plain floats needs no one to ask, since that is repr's text."""
        cdef uint64_t key = <uint64_t> raw ^ <uint64_t> slot << 40 ^ <uint64_t> state << 60
        cdef uint64_t mixed = key * <uint64_t> 0x9E3779B97F4A7C15  # Knuth's multiplicative hashing
        cdef Py_ssize_t at = <Py_ssize_t> (mixed >> 48)
        cdef bytes text
        if self.kept[at].slot == slot and self.kept[at].raw == raw and self.kept[at].state == state:
            return <bytes> self.texts[at]
        if state == GOOD and self.floats[slot] and isfinite(value):
            text = repr_of(value)
        else:
            text = self.text_of(slot, raw, value, state)
        self.texts[at] = text
        self.kept[at].slot, self.kept[at].raw, self.kept[at].state = slot, raw, state
        return text

    def render(
        self, const Frame[::1] frames, const int32_t[::1] frame, const int32_t[::1] slot,
        const int64_t[::1] raw, const double[::1] value, const uint8_t[::1] state,
    ):
        """The rows (in frame order) as text; a message never spans two calls' rows.

        `frame` indexes `frames`; a frame's channel and a slot are places among those added.
        """
        cdef Py_ssize_t n, rows = frame.shape[0], head = 0, head_length = 0
        cdef int last_frame = -1, last_group = -1, group
        self.used = 0
        for n in range(rows):
            group = self.groups[slot[n]]
            if frame[n] != last_frame or (group != last_group and not self.flat):
                if n and not self.flat:
                    self.add(b"}}\n")
                head = self.used
                self.add(self.before_time)
                self.add_time(frames[frame[n]].time_us)
                self.add(<bytes> self.channel_heads[frames[frame[n]].channel])
                self.reserve(20)
                self.used += digits(self.buffer + self.used, frames[frame[n]].id)
                self.add(self.after_id)
                head_length = self.used - head
                last_frame, last_group = frame[n], group
                if not self.flat:
                    self.add(<bytes> self.message_heads[slot[n]])
            elif self.flat:
                self.reserve(head_length)
                memcpy(self.buffer + self.used, self.buffer + head, head_length)
                self.used += head_length
            else:
                self.add(b", ")
            self.add(<bytes> self.slot_heads[slot[n]])
            self.add(self.value_text(slot[n], raw[n], value[n], state[n]))
            if self.flat:
                self.add(b"\r\n")
        if rows and not self.flat:
            self.add(b"}}\n")
        return PyBytes_FromStringAndSize(self.buffer, self.used)
