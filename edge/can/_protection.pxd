"""What guards a message against corruption and repetition, for kernels (see protection.py)."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

cdef enum:  # what `check` says
    GOOD = 0
    BAD_CHECKSUM = 1
    REPEATED_COUNTER = 2

cdef packed struct Field:  # up to 16 bits of a frame: (its bytes as one number >> shift) & mask
    int32_t first        # its first byte
    int32_t bytes        # 1 to 3, or 0: there is no such field
    int32_t big_endian
    int32_t shift
    uint32_t mask

cdef packed struct Protection:
    int32_t family       # 0 none, 1 CRC-8, 2 CRC-16, 3 xor, 4 sum, 5 and 6 J1939 sums folded to 4 and 3 bits
    int32_t table        # of the CRC
    uint16_t start       # the CRC's initial value
    uint16_t xor_out
    int32_t needed       # bytes that the frame must have
    int32_t first        # the bytes that are protected: first .. end
    int32_t end
    int32_t skip         # the checksum's own bytes, left out: skip .. skip_end
    int32_t skip_end
    int32_t n_before     # bytes that go into the CRC before the data but are not in the frame
    int32_t n_after      # and after it
    int32_t listed       # 1: also before the data, 2: after it, the byte of `ids` at the counter
    uint8_t before[2]
    uint8_t after[2]
    uint8_t ids[16]
    Field checksum
    Field counter
    Field nibble         # AUTOSAR profiles 1 and 11: the part of the data id that is in the frame
    int32_t nibble_value
    int32_t modulus      # the counter's: it goes from 0 to modulus - 1
    int64_t timeout_us   # after so long a silence a repeated counter is a sender that started again

cdef packed struct ProtectionState:  # of one sender of one message; all zeros before its first frame
    int64_t time_us      # of the last frame that was accepted or repeated its counter
    int64_t skipped      # frames that must have been lost on the way: the counter jumped over them
    int32_t counter      # of the last accepted frame
    int32_t started      # 1 after the first frame

# Whether a frame can be trusted. `length` is the frame's, in bytes; `data` has room for that many.
# Of the state it touches the time alone, where a counter repeats: a sender that hangs is no silence.
cdef int check(
    const Protection* p, ProtectionState* s, uint32_t frame_id, int64_t time_us,
    const uint8_t* data, int length,
) noexcept nogil

# Remember a frame that `check` found good and that was decoded: only now does the state advance.
cdef void accept(
    const Protection* p, ProtectionState* s, int64_t time_us, const uint8_t* data,
) noexcept nogil
