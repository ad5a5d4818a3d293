# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The decoding kernel: FRAME arrays through compiled tables. edge/can/tables.py explains the tables.

A frame finds its target: one sender's instance of one message, with the slots that it fills. Targets are
found in a plain array for 11 bit identifiers, in a hash for the rest. What is not plain (multiplexers,
floats, checksums, long frames) is behind the target's flags, so that the common frame stays short.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.dict cimport PyDict_Copy, PyDict_SetItem
from cpython.float cimport PyFloat_FromDouble
from cpython.long cimport PyLong_FromLongLong, PyLong_FromUnsignedLongLong
from libc.math cimport isfinite, ldexp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np
from numpy import ndarray

from edge.can._frame cimport ERROR, EXTENDED, REMOTE, Frame
from edge.can._protection cimport BAD_CHECKSUM as SPOILED
from edge.can._protection cimport Protection, ProtectionState, accept, check

from edge.can.frames import FRAME
from edge.errors import DecodeError

cdef extern from *:
    """
    /* Exact products of 64 bit integers; the compiler rounds them to double as Python does. */
    typedef __int128 ayaz_int128;
    """
    ctypedef long long int128 "ayaz_int128"
    const Py_ssize_t PY_SSIZE_T_MAX
    void prefetch "__builtin_prefetch"(const void*) nogil
    uint64_t bswap64 "__builtin_bswap64"(uint64_t) nogil
    bint likely "__builtin_expect"(bint, long) nogil

cdef extern from *:
    """
    /* The head of a NumPy array (PyArrayObject_fields, the same since NumPy 1.0). Asking for its buffer
       instead costs more than decoding twenty frames: NumPy then spells out the format of a record
       array each time. */
    typedef struct {
        PyObject_HEAD
        char *data;
        int nd;
        Py_ssize_t *dimensions;
        Py_ssize_t *strides;
    } ayaz_array;
    """
    ctypedef struct ArrayHead "ayaz_array":
        char* data
        int nd
        Py_ssize_t* dimensions
        Py_ssize_t* strides

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
    int32_t protection   # its place among the protections
    int32_t way          # how its frames get into the table of latest values
    int32_t pad

cdef packed struct Signal:
    double scale
    double offset
    uint32_t mask
    uint32_t sign
    uint16_t byte
    uint8_t shift
    uint8_t kind
    int32_t slot

cdef packed struct Detail:
    uint64_t mask
    uint64_t sign
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

cdef packed struct Entry:  # of the hash from identifiers to targets
    uint64_t key
    int64_t target

cdef struct Stamp:       # written as one
    int64_t time_us
    int64_t state        # one byte of it is the state, the rest is zero

cdef struct Record:      # of LATEST
    int64_t raw
    double value
    Stamp stamp

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
    WIDE
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
    HASHES = 64
    BLOCK = 4096         # frames that are looked at together: 330 kB, for a processor's second cache
    AHEAD = 48           # frames from here the memory is asked for
    FEW = 128            # frames of a block that is not worth a look for what is superseded, if it costs one

cdef enum:  # ways into the table of latest values; edge/can/decoder.py has the same numbers
    PLAIN_WAY            # the newest frame of a block is enough, and nothing of it is special
    NEWEST_WAY           # the newest frame of each page, or since which all was good, is enough
    EVERY_WAY            # a checksum, a counter, or several targets: every frame in its turn

cdef extern from *:
    """
    #define AYAZ_EMPTY 0xFFFFFFFFFFFFFFFFULL
    #define AYAZ_J1939 (1ULL << 62)
    #define AYAZ_ANY_SOURCE (1ULL << 61)
    #define AYAZ_MULTIPLIER 0x9E3779B97F4A7C15ULL  /* 2^64 over the golden ratio, as in Knuth */
    """
    const uint64_t EMPTY "AYAZ_EMPTY"
    const uint64_t J1939 "AYAZ_J1939"
    const uint64_t ANY_SOURCE "AYAZ_ANY_SOURCE"
    const uint64_t MULTIPLIER "AYAZ_MULTIPLIER"


cdef inline uint64_t plain_key(uint64_t channel, uint64_t frame_id, bint extended) noexcept nogil:
    return channel << 33 | <uint64_t> extended << 32 | frame_id


cdef inline uint64_t load(const uint8_t* at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


cdef inline uint64_t extract(const uint8_t* window, const Signal* s, const Detail* d) noexcept nogil:
    cdef uint64_t value = load(window + s.byte) >> s.shift
    if s.kind & SPLIT:
        value |= <uint64_t> window[s.byte + 8] << (64 - s.shift)
    return value & d.mask


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


cdef inline double physical(uint64_t bits, const Signal* s, const Detail* d, int64_t* raw) noexcept nogil:
    """The value as Python computes it. The raw of a float is the bits of the double that it is."""
    cdef int kind = s.kind & KIND
    cdef uint32_t half
    cdef float single
    cdef double number
    cdef int64_t scale, offset
    cdef int128 exact
    raw[0] = <int64_t> ((bits ^ d.sign) - d.sign)
    if kind == INT or kind == WIDE:
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


cdef inline bint side_by_side(frames) except -1:
    """Whether the frames of an array of FRAME lie side by side in memory."""
    if not isinstance(frames, ndarray) or (frames.dtype is not FRAME and frames.dtype != FRAME):
        raise TypeError(f"frames must be an array of FRAME, not of {getattr(frames, 'dtype', type(frames))}")
    cdef const ArrayHead* array = <const ArrayHead*> <void*> frames
    if array.nd != 1:
        raise TypeError(f"frames must be an array of one dimension, not of {array.nd}")
    return array.dimensions[0] < 2 or array.strides[0] == sizeof(Frame)


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
    cdef const Detail[::1] details_view
    cdef const Group[::1] groups_view
    cdef const Selector[::1] selectors_view
    cdef const int32_t[::1] pages_view
    cdef const int64_t[::1] keys_view
    cdef const Range[::1] ranges_view
    cdef const Signal* signals
    cdef const Detail* details
    cdef const Group* groups
    cdef const Selector* selectors
    cdef const int32_t* pages
    cdef const int64_t* keys
    cdef const Range* ranges
    cdef Target[::1] targets_view
    cdef Target* targets
    cdef Entry[::1] entries_view
    cdef Entry* entries
    cdef uint64_t multiplier
    cdef int shift
    cdef Py_ssize_t n_entries
    cdef int32_t[::1] found_view
    cdef int32_t* found
    cdef uint8_t[::1] j1939_view
    cdef const Protection[::1] protections_view
    cdef const Protection* protections
    cdef ProtectionState[::1] states_view
    cdef ProtectionState* states
    cdef int64_t[::1] marks_view
    cdef int64_t* marks      # of each target's groups: the block in which a later frame has filled them
    cdef int64_t block
    cdef int deepest         # groups that a message can have
    cdef Py_ssize_t table_bytes  # that a table of latest values must have to be filled without help
    cdef bint fallbacks      # whether there are targets that cantools must decode
    cdef Sink no_sink
    cdef int n_channels
    cdef int most           # signals that one frame can have
    cdef list names, choices, conversions
    cdef list templates     # of each group: a dictionary with its names
    cdef uint8_t window_space[2 * LONGEST]
    cdef uint8_t padded[LONGEST]
    cdef int32_t block_targets[BLOCK]
    cdef int32_t block_order[BLOCK]

    # Building

    def _load(self, tables, deepest, most, names, choices, conversions, j1939_channels, protections):
        """Take the tables of edge/can/tables.py; `j1939_channels` has a byte for each channel."""
        self.signals_view, self.details_view = tables["signals"], tables["details"]
        self.groups_view = tables["groups"]
        self.selectors_view, self.pages_view = tables["selectors"], tables["pages"]
        self.keys_view, self.ranges_view = tables["keys"], tables["ranges"]
        self.signals, self.details = &self.signals_view[0], &self.details_view[0]
        self.groups = &self.groups_view[0]
        self.selectors, self.pages = &self.selectors_view[0], &self.pages_view[0]
        self.keys, self.ranges = &self.keys_view[0], &self.ranges_view[0]
        self.names, self.choices, self.conversions = list(names), list(choices), list(conversions)
        self.templates = []
        for group in self.groups_view:
            chosen = self.names[group.first : group.first + group.count]
            self.templates.append(dict.fromkeys(chosen) if chosen else None)
        self.deepest = deepest
        self.table_bytes = PY_SSIZE_T_MAX
        self.no_sink = Sink(0)
        self.found_view = np.zeros(deepest + 1, np.int32)
        self.found = &self.found_view[0]
        self.most = max(most, 1)
        self.j1939_view = j1939_channels
        self.n_channels = len(j1939_channels)
        self.protections_view = protections
        self.protections = &self.protections_view[0]
        self._make_hash(6)

    def _set_targets(self, targets, states):
        """Where the targets are, and the state of each one's protection; again whenever they move."""
        self.targets_view, self.states_view = targets, states
        self.targets, self.states = &self.targets_view[0], &self.states_view[0]
        self.marks_view = np.zeros(len(targets) * self.deepest, np.int64)
        self.marks = &self.marks_view[0]

    def _needs(self, Py_ssize_t n_slots, bint fallbacks):
        """A table of so many slots can be filled without help, negative: none can; `fallbacks`: some
        targets need cantools."""
        self.table_bytes = n_slots * <Py_ssize_t> sizeof(Record) if n_slots >= 0 else PY_SSIZE_T_MAX
        self.fallbacks = fallbacks

    def _find(self, int channel, uint64_t frame_id, bint extended, int target):
        """The target of an identifier."""
        self._put(plain_key(channel, frame_id, extended), target)

    def _find_source(self, int channel, uint64_t pgn, uint64_t source, int target):
        """The target of one sender's J1939 messages."""
        self._put(J1939 | <uint64_t> channel << 32 | pgn << 8 | source, target)

    def _find_pgn(self, int channel, uint64_t pgn, int target):
        """The target that stands for a J1939 message, whoever sends it."""
        self._put(J1939 | ANY_SOURCE | <uint64_t> channel << 32 | pgn << 8, target)

    def _tidy(self):
        """Choose of some multipliers the one with which most keys lie where they are looked for first."""
        cdef int n, best = -1, places
        cdef uint64_t key, chosen = MULTIPLIER, multiplier
        entries = [(e.key, e.target) for e in self.entries_view if e.key != EMPTY]
        for n in range(HASHES):
            multiplier = MULTIPLIER * <uint64_t> (2 * n + 1)
            seen = set()
            for key, _ in entries:
                seen.add((key * multiplier) >> self.shift)
            places = len(seen)
            if places > best:
                best, chosen = places, multiplier
        self._make_hash(64 - self.shift)
        self.multiplier = chosen
        for key, target in entries:
            self._put(key, target)

    cdef void _make_hash(self, int bits):
        entries = np.zeros(1 << bits, [("key", "<u8"), ("target", "<i8")])
        entries["key"], entries["target"] = EMPTY, -1
        self.entries_view = entries
        self.entries = &self.entries_view[0]
        self.multiplier = MULTIPLIER
        self.shift = 64 - bits
        self.n_entries = 0

    cdef void _put(self, uint64_t key, int target):
        cdef uint64_t at = self._place(key)
        if self.entries[at].key == EMPTY:
            self.n_entries += 1
        self.entries[at].key, self.entries[at].target = key, target
        if self.n_entries * 8 > self.entries_view.shape[0]:  # sparse: a second look costs more than memory
            old = self.entries_view
            self._make_hash(66 - self.shift)
            for i in range(old.shape[0]):
                if old[i].key != EMPTY:
                    self._put(old[i].key, <int> old[i].target)

    @cython.final
    cdef inline uint64_t _place(self, uint64_t key) noexcept nogil:
        cdef uint64_t at = (key * self.multiplier) >> self.shift
        while self.entries[at].key != key and self.entries[at].key != EMPTY:
            at = (at + 1) & (((<uint64_t> 1) << (64 - self.shift)) - 1)
        return at

    @cython.final
    cdef inline int _get(self, uint64_t key) noexcept nogil:
        return <int> self.entries[self._place(key)].target

    def _target_of(self, int channel, uint32_t frame_id):
        """The target of a 29 bit identifier, or what _target says."""
        cdef int target = self._get(plain_key(channel, frame_id, True))
        return target if target >= 0 else self._target(channel, frame_id)

    # One frame

    @cython.final
    cdef int _target(self, int channel, uint32_t frame_id) noexcept nogil:
        """The target of a 29 bit identifier that is not in the hash as it is.

        -1: none, -2: a J1939 message from a source that is new, -3: transport, -4: a source too many.
        """
        cdef uint64_t pgn, key
        cdef int format, target
        if not self.j1939_view[channel] or frame_id >> 29:
            return -1
        pgn = (frame_id >> 8) & 0x3FFFF
        format = (frame_id >> 16) & 0xFF
        if format < 240:
            pgn &= 0x3FF00
        key = J1939 | <uint64_t> channel << 32 | pgn << 8
        target = self._get(key | (frame_id & 0xFF))
        if target != -1:
            return target
        if self._get(key | ANY_SOURCE) >= 0:
            return -2
        return -3 if 0xEA <= format <= 0xEE and format != 0xED else -1

    @cython.final
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

    @cython.final
    cdef int _groups(self, int group, const uint8_t* window, int mode, int bits, int n) noexcept nogil:
        """List in `found` the groups that are there, from the n-th on; their number, or -1 where a selector
        selects nothing. With `bits` of a truncated frame, selectors beyond it are not asked."""
        cdef const Group* g = &self.groups[group]
        cdef const Selector* q
        cdef const Signal* s
        cdef const Detail* d
        cdef int64_t raw, low, high, middle
        cdef uint64_t value
        cdef int i, page
        if g.refused:
            return -1
        self.found[n] = group
        n += 1
        for i in range(g.selectors):
            q = &self.selectors[g.first_selector + 4 * i + mode]
            s, d = &self.signals[q.signal], &self.details[q.signal]
            if d.end > bits:
                continue
            value = extract(window, s, d)
            if s.kind & UNSIGNED and value >> 63:
                return -1
            raw = <int64_t> ((value ^ d.sign) - d.sign)
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
            if self.groups[page].selectors or self.groups[page].refused:
                n = self._groups(page, window, mode, bits, n)
                if n < 0:
                    return -1
            else:  # what nearly every page is
                self.found[n] = page
                n += 1
        return n

    @cython.final
    cdef int _apply(
        self, int target, uint32_t frame_id, const uint8_t* data, int length, int64_t time_us, int32_t frame,
        Record* latest, Sink sink,
    ) noexcept nogil:
        """Decode a frame into the table of latest values or, where that is NULL, into the sink.

        The count that it belongs to. `data` is readable for the message's window.
        """
        cdef const Target* t = &self.targets[target]
        cdef const uint8_t* window
        cdef const Group* g
        cdef int n = 1, i, verdict
        if length < t.length:
            return TOO_SHORT
        if t.flags & PROTECTED:
            verdict = check(
                &self.protections[t.protection], &self.states[target], frame_id, time_us, data, length
            )
            if verdict:
                return BAD_CHECKSUM if verdict == SPOILED else REPEATED_COUNTER
        window = self._window(t.window, t.flags, data)
        self.found[0] = t.group
        if t.flags & MUXED:
            if self.groups[t.group].refused:
                return NOT_DECODABLE
            n = self._groups(t.group, window, DEFAULT_MODE, 65536, 0)
            if n < 0:
                return BAD_MUX
        if t.flags & PROTECTED:
            accept(&self.protections[t.protection], &self.states[target], time_us, data)
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

    @cython.final
    cdef int64_t _state(self, const Signal* s, const Detail* d, int64_t raw, double value) noexcept nogil:
        """GOOD, or what the ranges say of the raw value; a number that is none is INVALID."""
        cdef const Range* r = &self.ranges[d.first_range]
        cdef int i, kind = s.kind & KIND
        cdef double number, low, high
        for i in range(d.ranges):
            if FLOAT16 <= kind <= FLOAT64:
                memcpy(&number, &raw, 8)
                memcpy(&low, &r[i].low, 8)
                memcpy(&high, &r[i].high, 8)
                if low <= number <= high or (number != number and low != low):
                    return r[i].state
            elif s.kind & UNSIGNED:
                if <uint64_t> r[i].low <= <uint64_t> raw <= <uint64_t> r[i].high:
                    return r[i].state
            elif r[i].low <= raw <= r[i].high:
                return r[i].state
        return GOOD if isfinite(value) else INVALID

    @cython.final
    cdef void _update_odd(
        self, int first, int count, const uint8_t* window, int64_t time_us, Record* base
    ) noexcept nogil:
        cdef const Signal* s
        cdef const Detail* d
        cdef Record* record
        cdef double value
        cdef int i
        for i in range(first, first + count):
            s = &self.signals[i]
            record = base + s.slot
            d = &self.details[i]
            value = physical(extract(window, s, d), s, d, &record.raw)
            record.stamp.time_us = time_us
            record.stamp.state = self._state(s, d, record.raw, value)
            if record.stamp.state == GOOD:
                record.value = value

    @cython.final
    cdef void _list(
        self, int first, int count, const uint8_t* window, int32_t frame, int32_t base, Sink sink
    ) noexcept nogil:
        cdef const Signal* s
        cdef const Detail* d
        cdef Py_ssize_t row = sink.count
        cdef int i
        for i in range(first, first + count):
            s, d = &self.signals[i], &self.details[i]
            sink.frame[row] = frame
            sink.slot[row] = base + s.slot
            sink.value[row] = physical(extract(window, s, d), s, d, &sink.raw[row])
            sink.state[row] = <uint8_t> self._state(s, d, sink.raw[row], sink.value[row])
            row += 1
        sink.count = row

    # Many frames

    def _run(self, frames, Py_ssize_t start, Py_ssize_t stop, Buffer latest, Buffer counts, Sink sink):
        """Decode frames start .. stop, into the table of latest values or, where that is None, the sink.

        Returns where it stopped, why, and the target that it has to do with: see the enumeration.
        """
        cdef const ArrayHead* array = <const ArrayHead*> <void*> frames
        cdef Record* records = NULL if latest is None else <Record*> latest.view.buf
        cdef Py_ssize_t at = start
        cdef int target = -1, reason
        if not side_by_side(frames) or stop > array.dimensions[0]:
            raise IndexError("beyond the last frame")
        if sink is None:
            sink = self.no_sink
        with nogil:
            reason = self._frames(
                <const Frame*> array.data, &at, stop, records, <int64_t*> counts.view.buf,
                counts.view.len // 8 // max(self.n_channels, 1), sink, &target,
            )
        return at, reason, target

    def _run_into(self, frames, Buffer latest not None, Buffer counts not None):
        """Decode frames into the table of latest values, up to the first that needs help; where that is, or
        -1 where none does."""
        cdef const ArrayHead* array = <const ArrayHead*> <void*> frames
        cdef Sink sink = self.no_sink
        cdef Py_ssize_t at = 0
        cdef int target = -1
        if latest.view.len < self.table_bytes or not side_by_side(frames):
            return 0
        with nogil:
            self._frames(
                <const Frame*> array.data, &at, array.dimensions[0], <Record*> latest.view.buf,
                <int64_t*> counts.view.buf, counts.view.len // 8 // max(self.n_channels, 1), sink, &target,
            )
        return at if at < array.dimensions[0] else -1

    @cython.final
    cdef int _frames(
        self, const Frame* frames, Py_ssize_t* at, Py_ssize_t stop, Record* latest, int64_t* counts,
        Py_ssize_t columns, Sink sink, int* which,
    ) noexcept nogil:
        """Block by block: first every frame's target, then what the frames say.

        Rows of events come in the order of the frames. Into the table of latest values go only the frames
        of a block that no later one supersedes (`_newest`); the others are checked and counted all the same.
        """
        cdef Py_ssize_t n, end
        cdef int64_t* count
        cdef const Frame* f
        cdef int i, target, verdict, left, reason = DONE
        while at[0] < stop and reason == DONE:
            end = min(stop, at[0] + BLOCK)
            if latest == NULL:
                end = min(end, at[0] + (sink.room - sink.count) // self.most)
                if end == at[0]:
                    return FULL
            reason = self._find_targets(frames, at[0], &end, counts, columns, which)
            if latest == NULL:
                for n in range(at[0], end):
                    if self.block_targets[n - at[0]] < 0:
                        continue
                    f = &frames[n]
                    count = counts + f.channel * columns
                    count[RECEIVED] += 1
                    count[self._apply(
                        self.block_targets[n - at[0]], f.id, f.data, f.length, f.time_us, <int32_t> n,
                        NULL, sink,
                    )] += 1
                at[0] = end
                continue
            left = self._newest(frames + at[0], <int> (end - at[0]), latest, counts, columns)
            for i in range(left - 1, -1, -1):  # they are listed from the last to the first
                n = at[0] + self.block_order[i]
                f = &frames[n]
                target = self.block_targets[self.block_order[i]]
                verdict = self._apply(
                    target, f.id, f.data, f.length, f.time_us, <int32_t> n, latest, sink,
                )
                if self.targets[target].way >= (NEWEST_WAY if end - at[0] < FEW else EVERY_WAY):
                    count = counts + f.channel * columns
                    count[RECEIVED] += 1
                    count[verdict] += 1
            at[0] = end
        return reason

    @cython.final
    cdef int _newest(
        self, const Frame* frames, int n, Record* latest, int64_t* counts, Py_ssize_t columns
    ) noexcept nogil:
        """Of a block's frames, from the last to the first: those that the table of latest values needs.

        What a frame writes, a later one of its target overwrites: all of it where nothing is special; each
        of its pages where it is multiplexed; and, since a value that is not good leaves the one before,
        only if all of it was good. Plain frames are written at once; the others are listed in `block_order`,
        and their number is returned. Every frame is checked and counted here but those that go EVERY_WAY.
        """
        cdef const Frame* f
        cdef const Target* t
        cdef int64_t* marks
        cdef int64_t received = 0, decoded = 0
        cdef Py_ssize_t channel = 0
        cdef uint64_t words[2]
        cdef int i, target, left = 0, listed = NEWEST_WAY if n < FEW else EVERY_WAY
        self.block += 1
        for i in range(n - 1, -1, -1):
            target = self.block_targets[i]
            if target < 0:
                continue
            f = &frames[i]
            t = &self.targets[target]
            if t.way >= listed:
                self.block_order[left] = i
                left += 1
                continue
            if f.channel != channel:  # counted together, for each addition waits for the one before
                counts[channel * columns + RECEIVED] += received
                counts[channel * columns + DECODED] += decoded
                channel, received, decoded = f.channel, 0, 0
            received += 1
            if f.length < t.length:
                counts[channel * columns + TOO_SHORT] += 1
                continue
            marks = self.marks + <Py_ssize_t> target * self.deepest
            if t.way == PLAIN_WAY:
                decoded += 1
                if marks[0] != self.block:
                    marks[0] = self.block
                    words[0] = load(f.data)
                    words[1] = bswap64(words[0])
                    update_row(
                        self.signals + t.first, t.count, <const uint8_t*> words, f.time_us, latest + t.base
                    )
            elif self._needed(t, f.data, marks, counts + channel * columns):
                self.block_order[left] = i
                left += 1
        counts[channel * columns + RECEIVED] += received
        counts[channel * columns + DECODED] += decoded
        return left

    @cython.final
    cdef bint _needed(
        self, const Target* t, const uint8_t* data, int64_t* marks, int64_t* count
    ) noexcept nogil:
        """Whether a frame of NEWEST_WAY has something that no later one of the block has; it is counted."""
        cdef const uint8_t* window
        cdef int n = 1, i, group
        cdef bint needed = False
        if not t.flags & MUXED and marks[0] == self.block:
            count[DECODED] += 1
            return False
        window = self._window(t.window, t.flags, data)
        self.found[0] = t.group
        if t.flags & MUXED:
            n = -1 if self.groups[t.group].refused else self._groups(t.group, window, DEFAULT_MODE, 65536, 0)
            if n < 0:
                count[NOT_DECODABLE if self.groups[t.group].refused else BAD_MUX] += 1
                return False
        count[DECODED] += 1
        for i in range(n):
            group = self.found[i] - t.group
            if marks[group] == self.block:
                continue
            needed = True
            if not t.flags & ODD or self._all_good(&self.groups[self.found[i]], window):
                marks[group] = self.block
        return needed

    @cython.final
    cdef bint _all_good(self, const Group* g, const uint8_t* window) noexcept nogil:
        cdef const Signal* s
        cdef const Detail* d
        cdef int64_t raw
        cdef double value
        cdef int i
        for i in range(g.first, g.first + g.count):
            s, d = &self.signals[i], &self.details[i]
            value = physical(extract(window, s, d), s, d, &raw)
            if self._state(s, d, raw, value) != GOOD:
                return False
        return True

    @cython.final
    cdef int _find_targets(
        self, const Frame* frames, Py_ssize_t start, Py_ssize_t* stop, int64_t* counts, Py_ssize_t columns,
        int* which,
    ) noexcept nogil:
        """Each frame's target in `block_targets`, up to where Python must help.

        Counts what has no target.
        """
        cdef Py_ssize_t n
        cdef const Frame* f
        cdef int64_t* count
        cdef int target, i
        for n in range(start, stop[0]):
            f = &frames[n]
            prefetch(f + AHEAD)
            prefetch(<const char*> (f + AHEAD) + 24)
            i = <int> (n - start)
            self.block_targets[i] = -1
            if f.channel >= self.n_channels:
                continue
            count = counts + f.channel * columns
            if f.flags & (REMOTE | ERROR):
                count[RECEIVED] += 1
                count[ERROR_FRAMES if f.flags & ERROR else REMOTE_FRAMES] += 1
                continue
            target = self._get(plain_key(f.channel, f.id, f.flags & EXTENDED))
            if target < 0:
                target = self._target(f.channel, f.id) if f.flags & EXTENDED else -1
            if target < 0:
                if target == -2:
                    stop[0] = n
                    return NEW_SOURCE
                count[RECEIVED] += 1
                count[UNKNOWN if target == -1 else TRANSPORT if target == -3 else TOO_MANY_SOURCES] += 1
                continue
            if self.fallbacks and self.targets[target].flags & FALLBACK:
                stop[0] = n
                which[0] = target
                return ASK_CANTOOLS
            self.block_targets[i] = target
        return DONE

    def _run_message(
        self, int target, uint32_t frame_id, const uint8_t[::1] data not None, int64_t time_us,
        int32_t frame, Buffer latest, Sink sink,
    ):
        """Decode one reassembled message; the column of the counts that it belongs to."""
        cdef Record* records = NULL
        if latest is not None:
            records = <Record*> latest.view.buf
        elif sink.room - sink.count < self.most:
            sink.make_room(2 * sink.room + self.most)
        self._pad(data, self.targets[target].window)
        return self._apply(
            target, frame_id, self.padded, <int> data.shape[0], time_us, frame, records, sink
        )

    @cython.final
    cdef void _pad(self, const uint8_t[::1] data, int window):
        """The bytes in `padded`, with zeros up to the window's end."""
        cdef Py_ssize_t length = min(data.shape[0], <Py_ssize_t> window)
        memset(self.padded, 0, window)
        if length:
            memcpy(self.padded, &data[0], length)

    # For people

    def _lookup(self, int channel, uint32_t frame_id, bint extended):
        """The target of an identifier, any source's for J1939; -1: there is none."""
        return self._look(channel, frame_id, extended)

    @cython.final
    cdef int _look(self, int channel, uint32_t frame_id, bint extended) noexcept nogil:
        """The target of an identifier, any source's for J1939; -1: there is none."""
        cdef uint64_t pgn
        cdef int target
        if not 0 <= channel < self.n_channels or frame_id >= 1 << 29:
            return -1
        target = self._get(plain_key(channel, frame_id, extended))
        if target >= 0 or not extended:
            return target
        target = self._target(channel, frame_id)
        if target == -2 or target == -4:
            pgn = (frame_id >> 8) & 0x3FFFF
            if ((pgn >> 8) & 0xFF) < 240:
                pgn &= 0x3FF00
            target = self._get(J1939 | ANY_SOURCE | <uint64_t> channel << 32 | pgn << 8)
        return target if target >= 0 else -1

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
        cdef int64_t number
        cdef int target = -1
        cdef bint extended
        try:
            number = frame_id
        except OverflowError:
            raise KeyError(frame_id) from None
        if 0 <= number < 1 << 29:
            extended = number > 0x7FF if is_extended is None else is_extended
            target = self._look(channel, <uint32_t> number, extended)
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
        cdef dict result
        cdef const Group* g
        if n == 1 and bits == 65536 and self.templates[t.group] is not None:
            result = PyDict_Copy(self.templates[t.group])  # it has its size: one that grows is made twice
        else:
            result = {}
        for i in range(n):
            g = &self.groups[self.found[i]]
            for k in range(g.first, g.first + g.count):
                if self.details[k].end <= bits:
                    value = self._object(k, window, decode_choices, scaling)
                    PyDict_SetItem(result, <object> self.names[k], value)
        return result

    @cython.final
    cdef inline object _object(self, int k, const uint8_t* window, bint decode_choices, bint scaling):
        """One signal as the Python object that cantools gives."""
        cdef const Signal* s = &self.signals[k]
        cdef const Detail* d = &self.details[k]
        cdef int64_t raw
        cdef double value = physical(extract(window, s, d), s, d, &raw)
        cdef object number
        if d.gives == GIVES_INT and scaling and (not decode_choices or self.choices[k] is None):
            return PyLong_FromLongLong(<int64_t> value)
        if d.gives == GIVES_FLOAT and scaling and (not decode_choices or self.choices[k] is None):
            return PyFloat_FromDouble(value)
        if FLOAT16 <= (s.kind & KIND) <= FLOAT64:
            memcpy(&value, &raw, 8)
            number = PyFloat_FromDouble(value)
        elif s.kind & UNSIGNED:
            number = PyLong_FromUnsignedLongLong(<uint64_t> raw)
        else:
            number = PyLong_FromLongLong(raw)
        if decode_choices and self.choices[k] is not None:
            choices = <dict> self.choices[k]
            key = number
            if scaling and FLOAT16 <= (s.kind & KIND) <= FLOAT64:
                try:
                    key = int(number)
                except (ValueError, OverflowError):
                    raise DecodeError(f"{self.names[k]}: {number} has no choice") from None
            text = choices.get(key)
            if text is not None:
                return text
        if scaling and d.gives != GIVES_RAW:
            return self.conversions[k].raw_to_scaled(number)
        return number


cdef inline void update_row(
    const Signal* s, int count, const uint8_t* window, int64_t time_us, Record* record
) noexcept nogil:
    """The same where the slots lie side by side, as those of a message without multiplexers do."""
    cdef Record* end = record + count
    cdef Stamp stamp
    cdef uint64_t bits
    cdef int64_t raw
    stamp.time_us = time_us
    stamp.state = GOOD
    while record < end:
        bits = (load(window + s.byte) >> s.shift) & s.mask
        raw = <int64_t> ((bits ^ s.sign) - s.sign)
        record.raw = raw
        record.value = <double> raw * s.scale + s.offset
        record.stamp = stamp
        s += 1
        record += 1


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
