# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The decoding kernel: FRAME arrays through compiled tables. edge/can/tables.py explains the tables.

A frame finds its target: one sender's instance of one message, with the slots that it fills. Targets are
found in a plain array for 11 bit identifiers, in a hash for the rest. What is not plain (multiplexers,
floats, checksums, long frames) is behind the target's flags, so that the common frame stays short.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.float cimport PyFloat_FromDouble
from cpython.long cimport PyLong_FromLongLong, PyLong_FromUnsignedLongLong
from libc.math cimport isfinite, ldexp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

from edge.can.frames import FRAME
from edge.errors import DecodeError

cdef extern from *:
    """
    /* Exact products of 64 bit integers; the compiler rounds them to double as Python does. */
    typedef __int128 ayaz_int128;
    """
    ctypedef long long int128 "ayaz_int128"
    uint64_t bswap64 "__builtin_bswap64"(uint64_t) nogil
    bint likely "__builtin_expect"(bint, long) nogil

cdef packed struct Frame:
    int64_t time_us
    uint32_t id
    uint8_t channel
    uint8_t flags
    uint8_t length
    uint8_t pad
    uint8_t data[64]

cdef packed struct Target:
    int32_t message      # its number in the lists of the decoder
    int32_t base         # its first slot
    int32_t also         # another target that the same frame fills, or -1
    int32_t group        # the root group
    int32_t first        # of the root group: signals first .. first + count
    int32_t count
    int32_t length       # bytes that a frame must have
    int32_t window
    int32_t flags
    int32_t counter      # the slot of its counter, from `base`, or -1
    int32_t checksum_at  # byte, or -1
    int32_t checksum     # 0 crc8-sae-j1850, 1 xor, 2 sum

cdef packed struct Signal:
    double scale
    double offset
    uint64_t mask
    uint64_t sign
    uint16_t byte
    uint8_t shift
    uint8_t kind
    int32_t slot
    uint16_t end
    uint8_t gives
    uint8_t ranges
    int32_t first_range

cdef packed struct Group:
    int32_t first
    int32_t count
    int32_t first_selector
    int32_t selectors
    int32_t refused

cdef packed struct Selector:
    int64_t low
    int64_t size
    int32_t signal
    int32_t sparse
    int64_t first

cdef packed struct Range:
    int64_t low
    int64_t high
    int64_t state

cdef struct Stamp:       # written as one
    int64_t time_us
    int64_t state        # one byte of it is the state, the rest is zero

cdef struct Record:      # of LATEST
    int64_t raw
    double value
    Stamp stamp

cdef enum:  # flags of a frame
    EXTENDED = 1
    REMOTE = 2
    ERROR = 4

cdef enum:  # flags of a target
    FALLBACK = 1
    MUXED = 2
    ODD = 4
    PROTECTED = 8
    REVERSED = 16

cdef enum:  # kinds of a signal
    INT
    UINT64
    EXACT
    EXACT_SCALE
    FLOAT16
    FLOAT32
    FLOAT64
    KIND = 15
    SPLIT = 16
    IDENTITY = 32
    UNSIGNED = 64
    UNBOUND = 128

cdef enum:
    GIVES_RAW
    GIVES_INT
    GIVES_FLOAT
    GIVES_EXACT

cdef enum:  # validity
    GOOD = 1
    NOT_AVAILABLE = 3
    INVALID = 4

cdef enum:  # columns of the counts; edge/can/decoder.py names them
    RECEIVED
    DECODED
    UNKNOWN
    TOO_SHORT
    BAD_CHECKSUM
    REPEATED_COUNTER
    BAD_MUX
    NOT_DECODABLE
    TOO_MANY_SOURCES
    ERROR_FRAMES
    REMOTE_FRAMES
    TRANSPORT
    N_REASONS

cdef enum:  # why the kernel stopped before the last frame
    DONE
    ASK_CANTOOLS
    NEW_SOURCE
    FULL

cdef enum:
    DEFAULT_MODE = 3     # choices and scaling on: what cantools' decode_message does unasked
    LONGEST = 1792
    STANDARD_IDS = 2048

cdef uint64_t EMPTY = <uint64_t> -1
cdef uint64_t J1939 = <uint64_t> 1 << 62
cdef uint64_t ANY_SOURCE = <uint64_t> 1 << 61


cdef inline uint64_t load(const uint8_t* at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


cdef inline uint64_t extract(const uint8_t* window, const Signal* s) noexcept nogil:
    cdef uint64_t value = load(window + s.byte) >> s.shift
    if s.kind & SPLIT:
        value |= <uint64_t> window[s.byte + 8] << (64 - s.shift)
    return value & s.mask


cdef inline double float16(uint64_t bits) noexcept nogil:
    """IEEE 754 binary16."""
    cdef int exponent = (bits >> 10) & 31
    cdef double fraction = bits & 1023, value
    cdef uint64_t special
    if exponent == 31:
        special = (<uint64_t> 0x7FF << 52) | ((bits & 1023) << 42)
        if bits & 1023:
            special |= <uint64_t> 1 << 51
        memcpy(&value, &special, 8)
    elif exponent:
        value = ldexp(1024 + fraction, exponent - 25)
    else:
        value = ldexp(fraction, -24)
    return -value if bits & 0x8000 else value


cdef inline double physical(uint64_t bits, const Signal* s, int64_t* raw) noexcept nogil:
    """The value as Python computes it. The raw of a float is the bits of the double that it is."""
    cdef int kind = s.kind & KIND
    cdef uint32_t half
    cdef float single
    cdef double number
    cdef int64_t scale, offset
    cdef int128 exact
    raw[0] = <int64_t> ((bits ^ s.sign) - s.sign)
    if kind == INT:
        return <double> raw[0] * s.scale + s.offset
    if kind == UINT64:
        return <double> bits * s.scale + s.offset
    if kind == EXACT or kind == EXACT_SCALE:
        memcpy(&scale, &s.scale, 8)
        exact = <int128> bits if s.kind & UNSIGNED else <int128> raw[0]
        exact = exact * <int128> scale
        if kind == EXACT_SCALE:
            return <double> exact + s.offset
        memcpy(&offset, &s.offset, 8)
        return <double> (exact + <int128> offset)
    if kind == FLOAT64:
        memcpy(&number, &bits, 8)
    elif kind == FLOAT32:
        half = <uint32_t> bits
        memcpy(&single, &half, 4)
        number = single
    else:
        number = float16(bits)
    memcpy(raw, &number, 8)
    return number if s.kind & IDENTITY else number * s.scale + s.offset


cdef class Buffer:
    """Holds on to an array's memory, so that a call need not ask for it again."""

    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, array):
        PyObject_GetBuffer(array, &self.view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef class Sink:
    """Rows of events, as arrays that grow."""

    cdef object arrays
    cdef list buffers
    cdef Py_ssize_t count, room
    cdef int32_t* frame
    cdef int32_t* slot
    cdef int64_t* raw
    cdef double* value
    cdef uint8_t* state

    def __init__(self, Py_ssize_t room):
        self.arrays = None
        self.count = 0
        self.make_room(room)

    def make_room(self, Py_ssize_t room):
        """Arrays of at least so many rows, with what the old ones hold."""
        types = (np.int32, np.int32, np.int64, np.float64, np.uint8)
        arrays = [np.empty(room, t) for t in types]
        for new, old in zip(arrays, self.arrays or ()):
            new[: self.count] = old[: self.count]
        self.arrays = arrays
        self.buffers = [Buffer(a) for a in arrays]
        self.room = room
        self.frame = <int32_t*> (<Buffer> self.buffers[0]).view.buf
        self.slot = <int32_t*> (<Buffer> self.buffers[1]).view.buf
        self.raw = <int64_t*> (<Buffer> self.buffers[2]).view.buf
        self.value = <double*> (<Buffer> self.buffers[3]).view.buf
        self.state = <uint8_t*> (<Buffer> self.buffers[4]).view.buf

    def grow(self):
        """Twice the room."""
        self.make_room(2 * self.room)

    def add(self, int32_t frame, int32_t slot, int64_t raw, double value, uint8_t state):
        """One row."""
        if self.count == self.room:
            self.grow()
        self.frame[self.count], self.slot[self.count], self.raw[self.count] = frame, slot, raw
        self.value[self.count], self.state[self.count] = value, state
        self.count += 1

    def rows(self):
        """The five arrays, as long as there are rows."""
        return [a[: self.count] for a in self.arrays]


cdef class Kernel:
    """Decodes; edge/can/decoder.py's Decoder builds it and answers what it cannot do by itself.

    Not for two threads at once.
    """

    cdef const Signal[::1] signals_view
    cdef const Group[::1] groups_view
    cdef const Selector[::1] selectors_view
    cdef const int32_t[::1] pages_view
    cdef const int64_t[::1] keys_view
    cdef const Range[::1] ranges_view
    cdef const Signal* signals
    cdef const Group* groups
    cdef const Selector* selectors
    cdef const int32_t* pages
    cdef const int64_t* keys
    cdef const Range* ranges
    cdef Target[::1] targets_view
    cdef Target* targets
    cdef int32_t[::1] standard_view
    cdef int32_t* standard
    cdef uint64_t[::1] hash_keys_view
    cdef int32_t[::1] hash_targets_view
    cdef uint64_t* hash_keys
    cdef int32_t* hash_targets
    cdef uint64_t hash_mask
    cdef Py_ssize_t hashed
    cdef int32_t[::1] found_view
    cdef int32_t* found
    cdef int64_t[::1] last_counter_view
    cdef uint8_t[::1] j1939_view
    cdef uint8_t[::1] crc_view
    cdef int n_channels
    cdef int most           # signals that one frame can have
    cdef list names, choices, conversions
    cdef uint8_t window_space[2 * LONGEST]
    cdef uint8_t padded[LONGEST]

    # Building

    def _load(self, tables, deepest, most, names, choices, conversions, j1939_channels, crc):
        """Take the tables of edge/can/tables.py; `j1939_channels` has a byte for each channel."""
        self.signals_view, self.groups_view = tables["signals"], tables["groups"]
        self.selectors_view, self.pages_view = tables["selectors"], tables["pages"]
        self.keys_view, self.ranges_view = tables["keys"], tables["ranges"]
        self.signals, self.groups = &self.signals_view[0], &self.groups_view[0]
        self.selectors, self.pages = &self.selectors_view[0], &self.pages_view[0]
        self.keys, self.ranges = &self.keys_view[0], &self.ranges_view[0]
        self.names, self.choices, self.conversions = list(names), list(choices), list(conversions)
        self.found_view = np.zeros(deepest + 1, np.int32)
        self.found = &self.found_view[0]
        self.most = most
        self.j1939_view = j1939_channels
        self.n_channels = len(j1939_channels)
        self.crc_view = crc
        self.standard_view = np.full(max(1, self.n_channels) * STANDARD_IDS, -1, np.int32)
        self.standard = &self.standard_view[0]
        self._make_hash(64)

    def _set_targets(self, targets):
        """Take the targets; again whenever there are more of them."""
        old = self.last_counter_view if self.targets != NULL else np.zeros(0, np.int64)
        counters = np.full(len(targets), -1, np.int64)
        counters[: len(old)] = old
        self.last_counter_view = counters
        self.targets_view = targets
        self.targets = &self.targets_view[0]

    def _find_standard(self, int channel, int frame_id, int target):
        """The target of an 11 bit identifier."""
        self.standard[channel * STANDARD_IDS + frame_id] = target

    def _find_extended(self, int channel, uint64_t frame_id, int target):
        """The target of a 29 bit identifier."""
        self._put(<uint64_t> channel << 29 | frame_id, target)

    def _find_source(self, int channel, uint64_t pgn, uint64_t source, int target):
        """The target of one sender's J1939 messages."""
        self._put(J1939 | <uint64_t> channel << 26 | pgn << 8 | source, target)

    def _find_pgn(self, int channel, uint64_t pgn, int target):
        """The target that stands for a J1939 message, whoever sends it."""
        self._put(J1939 | ANY_SOURCE | <uint64_t> channel << 26 | pgn << 8, target)

    cdef void _make_hash(self, Py_ssize_t size):
        self.hash_keys_view = np.full(size, 0xFFFFFFFFFFFFFFFF, np.uint64)
        self.hash_targets_view = np.full(size, -1, np.int32)
        self.hash_keys, self.hash_targets = &self.hash_keys_view[0], &self.hash_targets_view[0]
        self.hash_mask = size - 1
        self.hashed = 0

    cdef void _put(self, uint64_t key, int target):
        cdef uint64_t at = self._place(key)
        if self.hash_keys[at] == EMPTY:
            self.hashed += 1
        self.hash_keys[at], self.hash_targets[at] = key, target
        if self.hashed * 2 > <Py_ssize_t> self.hash_mask:
            keys, targets = self.hash_keys_view, self.hash_targets_view
            self._make_hash(4 * keys.shape[0])
            for i in range(keys.shape[0]):
                if keys[i] != 0xFFFFFFFFFFFFFFFF:
                    self._put(keys[i], targets[i])

    cdef inline uint64_t _place(self, uint64_t key) noexcept nogil:
        cdef uint64_t at = ((key * <uint64_t> 0x9E3779B97F4A7C15) >> 32) & self.hash_mask
        while self.hash_keys[at] != key and self.hash_keys[at] != EMPTY:
            at = (at + 1) & self.hash_mask
        return at

    cdef inline int _get(self, uint64_t key) noexcept nogil:
        return self.hash_targets[self._place(key)]

    def _target_of(self, int channel, uint32_t frame_id):
        """What _target says."""
        return self._target(channel, frame_id)

    # One frame

    cdef int _target(self, int channel, uint32_t frame_id) noexcept nogil:
        """The target of a 29 bit identifier.

        -1: there is none, -2: a J1939 message from a source that is new, -3: transport, -4: a source too many.
        """
        cdef int target = self._get(<uint64_t> channel << 29 | frame_id)
        cdef uint64_t pgn, key
        cdef int format
        if target >= 0 or not self.j1939_view[channel]:
            return target
        pgn = (frame_id >> 8) & 0x3FFFF
        format = (frame_id >> 16) & 0xFF
        if format < 240:
            pgn &= 0x3FF00
        key = J1939 | <uint64_t> channel << 26 | pgn << 8
        target = self._get(key | (frame_id & 0xFF))
        if target != -1:
            return target
        if self._get(key | ANY_SOURCE) >= 0:
            return -2
        return -3 if 0xEA <= format <= 0xEE and format != 0xED else -1

    cdef const uint8_t* _window(self, int size, int flags, const uint8_t* data) noexcept nogil:
        """The bytes as they are, and behind them, at `size`, in reversed order."""
        cdef uint64_t word
        cdef int i
        if size == 8:
            word = load(data)
            memcpy(self.window_space, &word, 8)
            word = bswap64(word)
            memcpy(self.window_space + 8, &word, 8)
            return self.window_space
        if not flags & REVERSED:
            return data
        memcpy(self.window_space, data, size)
        for i in range(0, size, 8):
            word = bswap64(load(data + i))
            memcpy(self.window_space + 2 * size - 8 - i, &word, 8)
        return self.window_space

    cdef int _groups(self, int group, const uint8_t* window, int mode, int bits, int n) noexcept nogil:
        """List in `found` the groups that are there, from the n-th on; their number, or -1 where a selector
        selects nothing. With `bits` of a truncated frame, selectors beyond it are not asked."""
        cdef const Group* g = &self.groups[group]
        cdef const Selector* q
        cdef const Signal* s
        cdef int64_t raw, low, high, middle
        cdef uint64_t value
        cdef int i, page
        if g.refused:
            return -1
        self.found[n] = group
        n += 1
        for i in range(g.selectors):
            q = &self.selectors[g.first_selector + 4 * i + mode]
            s = &self.signals[q.signal]
            if s.end > bits:
                continue
            value = extract(window, s)
            if s.kind & UNSIGNED and value >> 63:
                return -1
            raw = <int64_t> ((value ^ s.sign) - s.sign)
            page = -1
            if not q.sparse:
                if q.low <= raw < q.low + q.size:
                    page = self.pages[q.first + raw - q.low]
            else:
                low, high = 0, q.size
                while low < high:
                    middle = (low + high) >> 1
                    if self.keys[q.low + middle] < raw:
                        low = middle + 1
                    else:
                        high = middle
                if low < q.size and self.keys[q.low + low] == raw:
                    page = self.pages[q.first + low]
            if page < 0:
                return -1
            n = self._groups(page, window, mode, bits, n)
            if n < 0:
                return -1
        return n

    cdef bint _checksum_good(self, const Target* t, const uint8_t* data) noexcept nogil:
        cdef uint8_t value = 0xFF if t.checksum == 0 else 0
        cdef int i
        for i in range(t.length):
            if i == t.checksum_at:
                continue
            if t.checksum == 0:
                value = self.crc_view[value ^ data[i]]
            elif t.checksum == 1:
                value ^= data[i]
            else:
                value += data[i]
        if t.checksum == 0:
            value ^= 0xFF
        return value == data[t.checksum_at]

    cdef bint _repeated(self, int target, const uint8_t* window) noexcept nogil:
        """Whether the counter stands still; where it does not, remember it."""
        cdef const Target* t = &self.targets[target]
        cdef int64_t raw
        cdef int i
        for i in range(t.first, t.first + t.count):
            if self.signals[i].slot == t.counter:
                raw = <int64_t> extract(window, &self.signals[i])
                if raw == self.last_counter_view[target]:
                    return True
                self.last_counter_view[target] = raw
        return False

    cdef int _apply(
        self, int target, const uint8_t* data, int length, int64_t time_us, int32_t frame,
        Record* latest, Sink sink,
    ) noexcept nogil:
        """Decode a frame into the table of latest values or, where that is NULL, into the sink.

        The count that it belongs to. `data` is readable for the message's window.
        """
        cdef const Target* t = &self.targets[target]
        cdef const uint8_t* window
        cdef const Group* g
        cdef int n = 1, i
        if length < t.length:
            return TOO_SHORT
        if t.flags & PROTECTED and t.checksum_at >= 0 and not self._checksum_good(t, data):
            return BAD_CHECKSUM
        window = self._window(t.window, t.flags, data)
        self.found[0] = t.group
        if t.flags & MUXED:
            if self.groups[t.group].refused:
                return NOT_DECODABLE
            n = self._groups(t.group, window, DEFAULT_MODE, 65536, 0)
            if n < 0:
                return BAD_MUX
        if t.flags & PROTECTED and t.counter >= 0 and self._repeated(target, window):
            return REPEATED_COUNTER
        while True:
            for i in range(n):
                g = &self.groups[self.found[i]]
                if latest != NULL:
                    if t.flags & ODD:
                        self._update_odd(g.first, g.count, window, time_us, latest + t.base)
                    else:
                        update_plain(self.signals + g.first, g.count, window, time_us, latest + t.base)
                else:
                    self._list(g.first, g.count, window, frame, t.base, sink)
            if t.also < 0:
                return DECODED
            t = &self.targets[t.also]

    cdef int64_t _state(self, const Signal* s, int64_t raw, double value) noexcept nogil:
        cdef const Range* r = &self.ranges[s.first_range]
        cdef int i
        for i in range(s.ranges):
            if r[i].low <= raw <= r[i].high:
                return r[i].state
        return GOOD if isfinite(value) else INVALID

    cdef void _update_odd(
        self, int first, int count, const uint8_t* window, int64_t time_us, Record* base
    ) noexcept nogil:
        cdef const Signal* s
        cdef Record* record
        cdef double value
        cdef int i
        for i in range(first, first + count):
            s = &self.signals[i]
            record = base + s.slot
            value = physical(extract(window, s), s, &record.raw)
            record.stamp.time_us = time_us
            record.stamp.state = self._state(s, record.raw, value)
            if record.stamp.state == GOOD:
                record.value = value

    cdef void _list(
        self, int first, int count, const uint8_t* window, int32_t frame, int32_t base, Sink sink
    ) noexcept nogil:
        cdef const Signal* s
        cdef Py_ssize_t row = sink.count
        cdef int i
        for i in range(first, first + count):
            s = &self.signals[i]
            sink.frame[row] = frame
            sink.slot[row] = base + s.slot
            sink.value[row] = physical(extract(window, s), s, &sink.raw[row])
            sink.state[row] = <uint8_t> self._state(s, sink.raw[row], sink.value[row])
            row += 1
        sink.count = row

    # Many frames

    def _run(self, frames, Py_ssize_t start, Py_ssize_t stop, Buffer latest, Buffer counts, Sink sink):
        """Decode frames start .. stop, into the table of latest values or, where that is None, the sink.

        Returns where it stopped, why, and the target that it has to do with: see the enumeration.
        """
        cdef Py_buffer view
        cdef Record* records = NULL
        cdef Py_ssize_t at = start
        cdef int target = -1, reason
        if frames.dtype is not FRAME and frames.dtype != FRAME:
            raise TypeError(f"frames must be an array of FRAME, not of {frames.dtype}")
        if latest is not None:
            records = <Record*> latest.view.buf
        PyObject_GetBuffer(frames, &view, PyBUF_SIMPLE)
        try:
            if stop > view.len // <Py_ssize_t> sizeof(Frame):
                raise IndexError("beyond the last frame")
            with nogil:
                reason = self._frames(
                    <const Frame*> view.buf, &at, stop, records, <int64_t*> counts.view.buf,
                    counts.view.len // 8 // self.n_channels, sink, &target,
                )
        finally:
            PyBuffer_Release(&view)
        return at, reason, target

    cdef int _frames(
        self, const Frame* frames, Py_ssize_t* at, Py_ssize_t stop, Record* latest, int64_t* counts,
        Py_ssize_t columns, Sink sink, int* which,
    ) noexcept nogil:
        cdef Py_ssize_t n
        cdef const Frame* f
        cdef const Target* t
        cdef int64_t* count
        cdef int target, flags
        cdef uint64_t words[2]
        for n in range(at[0], stop):
            f = &frames[n]
            if f.channel >= self.n_channels:
                continue
            count = counts + f.channel * columns
            flags = f.flags
            if not flags & (EXTENDED | REMOTE | ERROR):
                target = -1
                if f.id < STANDARD_IDS:
                    target = self.standard[f.channel * STANDARD_IDS + f.id]
            elif flags & ERROR:
                count[RECEIVED] += 1
                count[ERROR_FRAMES] += 1
                continue
            elif flags & REMOTE:
                count[RECEIVED] += 1
                count[REMOTE_FRAMES] += 1
                continue
            else:
                target = self._target(f.channel, f.id)
            if target < 0:
                if target == -2:
                    at[0] = n
                    return NEW_SOURCE
                count[RECEIVED] += 1
                count[UNKNOWN if target == -1 else TRANSPORT if target == -3 else TOO_MANY_SOURCES] += 1
                continue
            t = &self.targets[target]
            if t.flags == 0 and t.window == 8 and latest != NULL and f.length >= t.length and t.also < 0:
                words[0] = load(f.data)
                words[1] = bswap64(words[0])
                update_plain(
                    self.signals + t.first, t.count, <const uint8_t*> words, f.time_us, latest + t.base
                )
                count[RECEIVED] += 1
                count[DECODED] += 1
                continue
            if t.flags & FALLBACK:
                at[0] = n
                which[0] = target
                return ASK_CANTOOLS
            if latest == NULL and sink.room - sink.count < self.most:
                at[0] = n
                return FULL
            count[RECEIVED] += 1
            count[self._apply(target, f.data, f.length, f.time_us, <int32_t> n, latest, sink)] += 1
        at[0] = stop
        return DONE

    def _run_message(
        self, int target, const uint8_t[::1] data not None, int64_t time_us, int32_t frame, Buffer latest,
        Sink sink,
    ):
        """Decode one reassembled message; the column of the counts that it belongs to."""
        cdef Record* records = NULL
        if latest is not None:
            records = <Record*> latest.view.buf
        elif sink.room - sink.count < self.most:
            sink.make_room(2 * sink.room + self.most)
        self._pad(data, self.targets[target].window)
        return self._apply(target, self.padded, <int> data.shape[0], time_us, frame, records, sink)

    cdef void _pad(self, const uint8_t[::1] data, int window):
        """The bytes in `padded`, with zeros up to the window's end."""
        cdef Py_ssize_t length = min(data.shape[0], <Py_ssize_t> window)
        memset(self.padded, 0, window)
        if length:
            memcpy(self.padded, &data[0], length)

    # For people

    def _lookup(self, int channel, uint32_t frame_id, bint extended):
        """The target of an identifier, any source's for J1939; -1: there is none."""
        cdef uint64_t pgn
        cdef int target
        if not 0 <= channel < self.n_channels:
            return -1
        if not extended:
            return self.standard[channel * STANDARD_IDS + frame_id] if frame_id < STANDARD_IDS else -1
        if frame_id >= 1 << 29:
            return -1
        target = self._target(channel, frame_id)
        if target == -2 or target == -4:
            pgn = (frame_id >> 8) & 0x3FFFF
            if ((pgn >> 8) & 0xFF) < 240:
                pgn &= 0x3FF00
            target = self._get(J1939 | ANY_SOURCE | <uint64_t> channel << 26 | pgn << 8)
        return max(target, -1)

    def decode_message(
        self, frame_id, data, *, int channel=0, is_extended=None, bint decode_choices=True, bint scaling=True,
        bint allow_truncated=False,
    ):
        """The signals of one frame by name, as cantools' Database.decode_message gives them.

        Choices are plain text. Without `is_extended`, identifiers over 0x7FF have 29 bits, as in cantools.

        Raises
        ------
        KeyError
            There is no such message.
        DecodeError
            The data can't be a frame of that message.
        """
        cdef bint extended = frame_id > 0x7FF if is_extended is None else is_extended
        cdef int target = -1
        if 0 <= frame_id < 1 << 29:
            target = self._lookup(channel, frame_id, extended)
        if target < 0:
            raise KeyError(frame_id)
        cdef const Target* t = &self.targets[target]
        if t.flags & FALLBACK:
            return self._ask_cantools(t.message, data, decode_choices, scaling, allow_truncated)
        cdef const uint8_t[::1] view
        cdef const uint8_t* start
        cdef Py_ssize_t length
        if type(data) is bytes:
            start, length = data, len(data)
            if length > t.window:
                length = t.window
            memset(self.padded, 0, t.window)
            memcpy(self.padded, start, length)
            length = len(data)
        else:
            view = data
            length = view.shape[0]
            self._pad(view, t.window)
        cdef int bits = 65536, n, i, k
        if length < t.length:
            if not allow_truncated:
                raise DecodeError(f"Wrong data size: {length} instead of {t.length} bytes")
            bits = 8 * <int> length
        cdef const uint8_t* window = self._window(t.window, t.flags, self.padded)
        n = self._groups(t.group, window, 2 * decode_choices + scaling, bits, 0)
        if n < 0:
            raise DecodeError(f"0x{frame_id:x}: no such multiplexer page, or signals beyond the message")
        cdef dict result = {}
        cdef const Group* g
        for i in range(n):
            g = &self.groups[self.found[i]]
            for k in range(g.first, g.first + g.count):
                if self.signals[k].end <= bits:
                    result[<object> self.names[k]] = self._object(k, window, decode_choices, scaling)
        return result

    cdef object _object(self, int k, const uint8_t* window, bint decode_choices, bint scaling):
        """One signal as the Python object that cantools gives."""
        cdef const Signal* s = &self.signals[k]
        cdef int64_t raw
        cdef double value = physical(extract(window, s), s, &raw)
        cdef object number
        if s.gives == GIVES_INT and scaling and (not decode_choices or self.choices[k] is None):
            return PyLong_FromLongLong(<int64_t> value)
        if s.gives == GIVES_FLOAT and scaling and (not decode_choices or self.choices[k] is None):
            return PyFloat_FromDouble(value)
        if (s.kind & KIND) >= FLOAT16:
            memcpy(&value, &raw, 8)
            number = PyFloat_FromDouble(value)
        elif s.kind & UNSIGNED:
            number = PyLong_FromUnsignedLongLong(<uint64_t> raw)
        else:
            number = PyLong_FromLongLong(raw)
        if decode_choices and self.choices[k] is not None:
            choices = <dict> self.choices[k]
            key = number
            if scaling and (s.kind & KIND) >= FLOAT16:
                try:
                    key = int(number)
                except (ValueError, OverflowError):
                    raise DecodeError(f"{self.names[k]}: {number} has no choice") from None
            text = choices.get(key)
            if text is not None:
                return text
        if scaling and s.gives != GIVES_RAW:
            return self.conversions[k].raw_to_scaled(number)
        return number


cdef inline void update_plain(
    const Signal* s, int count, const uint8_t* window, int64_t time_us, Record* base
) noexcept nogil:
    """Whole numbers of one window, without ranges: the way of nearly every frame."""
    cdef const Signal* end = s + count
    cdef Record* record
    cdef Stamp stamp
    cdef uint64_t bits
    cdef int64_t raw
    stamp.time_us = time_us
    stamp.state = GOOD
    while s < end:
        record = base + s.slot
        bits = (load(window + s.byte) >> s.shift) & s.mask
        raw = <int64_t> ((bits ^ s.sign) - s.sign)
        record.raw = raw
        record.value = <double> raw * s.scale + s.offset
        record.stamp = stamp
        s += 1
