# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Frames out of a socket, many per system call, straight into a FRAME array. It can only receive.

The kernel's `struct canfd_frame` (linux/can.h: id, len, flags, 2 reserved, 64 data) has the size and the
order of a FRAME from `id` on, so the kernel writes each frame into its place and only its head is turned
round. What comes with a frame tells the rest: SCM_TIMESTAMPING the time, SO_RXQ_OVFL the loss,
MSG_DONTROUTE that this machine sent it.

The socket may be any datagram socket whose datagrams are CAN frames: the tests feed one over UDP.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from edge.can._frame cimport BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, OWN, REMOTE, Frame

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <poll.h>
    #include <sys/socket.h>
    #include <time.h>
    #ifndef __linux__  /* the rest of Ayaz builds elsewhere too; to open a source fails there */
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    static int recvmmsg(int fd, struct mmsghdr *m, unsigned int n, int flags, struct timespec *t)
    { (void)fd; (void)m; (void)n; (void)flags; (void)t; errno = ENOSYS; return -1; }
    #define MSG_CONFIRM 0
    #endif
    """
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        int cmsg_level
        int cmsg_type
    struct timespec:
        long tv_sec
        long tv_nsec
    struct pollfd:
        int fd
        short events
        short revents
    int recvmmsg(int, mmsghdr*, unsigned int, int, timespec*) nogil
    int poll(pollfd*, unsigned long, int) nogil
    int clock_gettime(int, timespec*) nogil
    cmsghdr* CMSG_FIRSTHDR(msghdr*) nogil
    cmsghdr* CMSG_NXTHDR(msghdr*, cmsghdr*) nogil
    unsigned char* CMSG_DATA(cmsghdr*) nogil
    enum:
        SOL_SOCKET
        MSG_DONTWAIT
        MSG_DONTROUTE
        MSG_TRUNC
        POLLIN
        CLOCK_REALTIME
        CLOCK_MONOTONIC

cdef enum:  # linux/can.h
    CAN_MTU = 16
    CANFD_MTU = 72
    CANFD_BRS = 1
    CANFD_ESI = 2

cdef uint32_t EFF_FLAG = 0x80000000
cdef uint32_t RTR_FLAG = 0x40000000
cdef uint32_t ERR_FLAG = 0x20000000

cdef enum:
    SO_RXQ_OVFL = 40           # asm-generic/socket.h
    SO_TIMESTAMPING_NEW = 65   # 64 bit times on every machine (Linux >= 5.1)
    CONTROL = 128              # bytes of control messages per frame: 64 for the times, 24 for the loss
    MOST = 1024                # frames a read

MAX_READ = MOST

cdef enum:  # what is counted, in the order of COUNTERS
    FRAMES
    MALFORMED
    ERROR_FRAMES
    TX_TIMEOUT
    LOST_ARBITRATION
    RX_OVERFLOW
    TX_OVERFLOW
    WARNING
    PASSIVE
    ACTIVE
    PROTOCOL
    TRANSCEIVER
    NO_ACK
    BUS_OFF
    BUS_ERROR
    RESTARTED
    N_COUNTERS

COUNTERS = (
    "frames", "malformed", "error_frames", "tx_timeout", "lost_arbitration", "rx_overflow", "tx_overflow",
    "warning", "passive", "active", "protocol", "transceiver", "no_ack", "bus_off", "bus_error", "restarted",
)

# (class bit of the id, its counter): linux/can/error.h. The controller's class (4) is told apart by data[1].
cdef uint32_t[8] CLASS_BIT = [0x1, 0x2, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100]
cdef int[8] CLASS_COUNTER = [
    TX_TIMEOUT, LOST_ARBITRATION, PROTOCOL, TRANSCEIVER, NO_ACK, BUS_OFF, BUS_ERROR, RESTARTED,
]
cdef enum:
    ERR_CONTROLLER = 0x4
    ERR_COUNTERS = 0x200

cdef uint8_t[65] FD_LENGTH  # 1: a length that a CAN FD frame can have
for _n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64):
    FD_LENGTH[_n] = 1

cdef int64_t NONE = -1
cdef int64_t SECOND = 1_000_000_000
cdef int64_t LEAK = 10_000  # 1e-4: two crystals drift apart by less than 100 ppm


cdef inline int64_t _now(int clock) noexcept nogil:
    cdef timespec t
    clock_gettime(clock, &t)
    return t.tv_sec * SECOND + t.tv_nsec


cdef int64_t _offset() noexcept nogil:
    """Monotonic minus wall time, ns: the tightest of three looks."""
    cdef int64_t before, wall, after, width, best = 0, narrowest = <int64_t> 1 << 62
    cdef int _look
    for _look in range(3):
        before = _now(CLOCK_MONOTONIC)
        wall = _now(CLOCK_REALTIME)
        after = _now(CLOCK_MONOTONIC)
        width = after - before
        if width < narrowest:
            narrowest = width
            best = before + (width >> 1) - wall
    return best


cdef class StampClock:
    """Puts the kernel's stamps (wall time) and a device's (any time) on the monotonic scale, in ns.

    Wall time steps. The offset is taken anew at each read: a stamp is shifted by the offset of the read
    before while the result lies between the last frame and now, and by the present one from the first
    frame on where it does not. So a step moves no time by more than that window, and none for good.

    A device's clock counts from anywhere and drifts. A frame's arrival in the kernel is never before its
    stamp, so the least difference of the two is the offset; it may grow by 100 ppm. Where a stamp is off by
    over a second, the device began to count anew.

    Times never run backwards and never lie in the future.
    """

    cdef int64_t wall_offset, device_offset, device_last, last, lowest
    cdef bint known, device_known

    def __init__(self):
        self.last = 0
        self.lowest = 0
        self.known = self.device_known = False

    cdef void begin(self, int64_t offset) noexcept nogil:
        """First read of all: there is no offset from before."""
        if not self.known:
            self.wall_offset = offset
            self.known = True

    cdef void drained(self, int64_t at) noexcept nogil:
        """The queue was empty at this time: what comes from now on is younger."""
        self.lowest = at

    cdef int64_t place(self, int64_t wall, int64_t device, int64_t now, int64_t offset) noexcept nogil:
        """The monotonic time of one frame; NONE stands for a stamp that is not there."""
        cdef int64_t at = now, slack = SECOND // 1000
        if wall != NONE:
            at = wall + self.wall_offset
            if at > now + slack or at < self.lowest - slack or at < self.last - slack:
                self.wall_offset = offset
                at = wall + offset
        if device != NONE:
            at = self.from_device(device, min(at, now))
        self.last = max(self.last, min(at, now))
        return self.last

    cdef int64_t from_device(self, int64_t device, int64_t arrival) noexcept nogil:
        cdef int64_t difference = arrival - device
        if self.device_known:
            self.device_offset += max(device - self.device_last, <int64_t> 0) // LEAK
        if not self.device_known or not -SECOND < difference - self.device_offset < SECOND:
            self.device_offset = difference
            self.device_known = True
        self.device_offset = min(self.device_offset, difference)
        self.device_last = device
        return device + self.device_offset

    def times(
        self, const int64_t[::1] wall, const int64_t[::1] device, int64_t now, int64_t offset,
        int64_t[::1] out,
    ):
        """One read's stamps: `out` in ns. What `Receiver.read` does, for tests."""
        cdef Py_ssize_t i
        self.begin(offset)
        for i in range(wall.shape[0]):
            out[i] = self.place(wall[i], device[i], now, offset)
        self.wall_offset = offset
        self.drained(now)


cdef class Receiver:
    """Reads one socket into FRAME arrays, and counts. Its counts and its clock outlive the socket."""

    cdef mmsghdr* messages
    cdef iovec* places
    cdef uint8_t* control
    cdef uint8_t channel
    cdef StampClock clock
    cdef int64_t[N_COUNTERS] counts
    cdef uint32_t drops  # the kernel's own counter for this socket, mod 2^32
    cdef readonly int64_t lost_socket
    cdef readonly int tx_errors, rx_errors

    def __cinit__(self):
        self.messages = <mmsghdr*> calloc(MOST, sizeof(mmsghdr))
        self.places = <iovec*> calloc(MOST, sizeof(iovec))
        self.control = <uint8_t*> calloc(MOST, CONTROL)
        if self.messages == NULL or self.places == NULL or self.control == NULL:
            raise MemoryError
        memset(self.counts, 0, sizeof(self.counts))

    def __init__(self, int channel):
        cdef Py_ssize_t i
        self.channel = channel
        self.clock = StampClock()
        self.lost_socket = self.drops = 0
        self.tx_errors = self.rx_errors = 0
        for i in range(MOST):
            self.messages[i].msg_hdr.msg_iov = &self.places[i]
            self.messages[i].msg_hdr.msg_iovlen = 1
            self.messages[i].msg_hdr.msg_control = self.control + i * CONTROL
            self.places[i].iov_len = CANFD_MTU

    def __dealloc__(self):
        free(self.messages)
        free(self.places)
        free(self.control)

    def new_socket(self):
        """Another socket is read from now on: its kernel counter begins at 0."""
        self.drops = 0

    def dropped(self, uint32_t drops):
        """The kernel's counter of this socket, asked for directly (SO_MEMINFO)."""
        self.count_drops(drops)

    def counters(self):
        """COUNTERS and their counts."""
        return {name: self.counts[i] for i, name in enumerate(COUNTERS)}

    def read(self, int fd, Frame[::1] frames, int timeout_ms):
        """Receive up to 1024 frames; waits up to timeout_ms for the first, without the GIL.

        Returns
        -------
        (n, error)
            Frames written, and the errno that ended it: 0, also where nothing came in time. Frames
            come first, the error with the next read.
        """
        cdef int got, error
        cdef int64_t room = min(frames.shape[0], <Py_ssize_t> MOST)
        if room == 0:
            return 0, 0
        with nogil:
            got = self.receive(fd, &frames[0], <int> room, timeout_ms)
            error = errno if got < 0 else 0
            got = self.translate(&frames[0], got, room) if got > 0 else 0
        if error == EINTR:
            PyErr_CheckSignals()
        return got, 0 if error in (EAGAIN, EINTR) else error

    cdef int receive(self, int fd, Frame* frames, int room, int timeout_ms) noexcept nogil:
        cdef int i, got
        cdef pollfd waiting
        if not self.clock.known:
            self.clock.begin(_offset())
        for i in range(room):
            self.places[i].iov_base = &frames[i].id
            self.messages[i].msg_hdr.msg_controllen = CONTROL
        got = recvmmsg(fd, self.messages, room, MSG_DONTWAIT, NULL)
        if got >= 0 or errno != EAGAIN or timeout_ms <= 0:
            return got
        waiting.fd, waiting.events = fd, POLLIN
        if poll(&waiting, 1, timeout_ms) < 0:
            return -1
        return recvmmsg(fd, self.messages, room, MSG_DONTWAIT, NULL)

    cdef int translate(self, Frame* frames, int got, int64_t room) noexcept nogil:
        """Turn the kernel's frames into ours, in place; what can't be a CAN frame is left out."""
        cdef int i, kept = 0
        cdef int64_t offset = _offset(), now = _now(CLOCK_MONOTONIC)
        for i in range(got):
            if kept != i:
                memcpy(&frames[kept].id, &frames[i].id, CANFD_MTU)
            frames[kept].time_us = self.read_control(&self.messages[i].msg_hdr, now, offset) // 1000
            if self.head(&frames[kept], self.messages[i].msg_len, self.messages[i].msg_hdr.msg_flags):
                kept += 1
            else:
                self.counts[MALFORMED] += 1
        self.clock.wall_offset = offset
        if got < room:
            self.clock.drained(now)
        self.counts[FRAMES] += kept
        return kept

    cdef int64_t read_control(self, msghdr* message, int64_t now, int64_t offset) noexcept nogil:
        """The frame's monotonic time in ns; the loss before it is counted."""
        cdef int64_t[6] stamps
        cdef int64_t wall = NONE, device = NONE
        cdef uint32_t drops
        cdef cmsghdr* c = CMSG_FIRSTHDR(message)
        while c != NULL:
            if c.cmsg_level == SOL_SOCKET:
                if c.cmsg_type == SO_TIMESTAMPING_NEW:
                    memcpy(stamps, CMSG_DATA(c), sizeof(stamps))
                    if stamps[0] or stamps[1]:
                        wall = stamps[0] * SECOND + stamps[1]
                    if stamps[4] or stamps[5]:
                        device = stamps[4] * SECOND + stamps[5]
                elif c.cmsg_type == SO_RXQ_OVFL:
                    memcpy(&drops, CMSG_DATA(c), sizeof(drops))
                    self.count_drops(drops)
            c = CMSG_NXTHDR(message, c)
        return self.clock.place(wall, device, now, offset)

    cdef void count_drops(self, uint32_t drops) noexcept nogil:
        """The counter wraps at 2^32, and a frame may carry an older one than was asked for since."""
        cdef int32_t more = <int32_t> (drops - self.drops)
        if more > 0:
            self.lost_socket += more
            self.drops = drops

    cdef bint head(self, Frame* frame, unsigned int size, int flags) noexcept nogil:
        """Rewrite the kernel's head as ours. False where no CAN bus can carry it."""
        cdef uint32_t can_id = frame.id
        cdef uint8_t length = frame.channel, fd_flags = frame.flags  # their places in canfd_frame
        cdef uint8_t ours = OWN if flags & MSG_DONTROUTE else 0
        cdef uint8_t held  # bytes of its own: a remote frame's length is what it asks for
        if flags & MSG_TRUNC:
            return False
        if size == CANFD_MTU:
            if length > 64 or not FD_LENGTH[length] or can_id & (RTR_FLAG | ERR_FLAG):
                return False
            ours |= FD
            ours |= BITRATE_SWITCH if fd_flags & CANFD_BRS else 0
            ours |= ERROR_STATE if fd_flags & CANFD_ESI else 0
        elif size != CAN_MTU or length > 8:
            return False
        if can_id & ERR_FLAG:
            if length != 8:
                return False
            ours |= ERROR
            frame.id = can_id & 0x1FFFFFFF
            self.classify(frame.id, frame.data)
        elif can_id & EFF_FLAG:
            ours |= EXTENDED
            frame.id = can_id & 0x1FFFFFFF
        elif can_id & 0x1FFFF800:
            return False
        else:
            frame.id = can_id & 0x7FF
        if can_id & RTR_FLAG and not can_id & ERR_FLAG:
            ours |= REMOTE
        frame.channel, frame.flags, frame.length, frame.pad = self.channel, ours, length, 0
        held = 0 if ours & REMOTE else length
        memset(frame.data + held, 0, 64 - held)
        return True

    cdef void classify(self, uint32_t classes, const uint8_t* data) noexcept nogil:
        cdef int i
        self.counts[ERROR_FRAMES] += 1
        for i in range(8):
            if classes & CLASS_BIT[i]:
                self.counts[CLASS_COUNTER[i]] += 1
        if classes & ERR_CONTROLLER:
            self.counts[RX_OVERFLOW] += data[1] & 0x01
            self.counts[TX_OVERFLOW] += data[1] >> 1 & 0x01
            self.counts[WARNING] += 1 if data[1] & 0x0C else 0
            self.counts[PASSIVE] += 1 if data[1] & 0x30 else 0
            self.counts[ACTIVE] += data[1] >> 6 & 0x01
        if classes & ERR_COUNTERS or classes & ERR_CONTROLLER and data[6] | data[7]:
            self.tx_errors, self.rx_errors = data[6], data[7]
