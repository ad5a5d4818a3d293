"""Frames of J1939 as a sender and a receiver would send them, written from the standard's own tables."""

from collections.abc import Iterable

import numpy as np

from edge.can.frames import EXTENDED, FRAME, Frames

PGN = 0xFEB0  # to everybody
ADDRESSED_PGN = 0xEF00  # proprietary A


class Bus:
    """Makes frames; `frames(...)` joins them, `every_us` apart."""

    def frame(self, pf: int, destination: int, source: int, data: bytes, time_us: int = 0) -> Frames:
        out = np.zeros(1, FRAME)
        out["id"] = 7 << 26 | pf << 16 | destination << 8 | source
        out["flags"], out["length"], out["time_us"] = EXTENDED, len(data), time_us
        out["data"][0, : len(data)] = np.frombuffer(data, np.uint8)
        return out

    def bam(self, payload: bytes, source: int = 3, pgn: int = PGN) -> list[Frames]:
        parts = self.parts(payload)
        head = bytes([32]) + len(payload).to_bytes(2, "little") + bytes([len(parts), 0xFF])
        announce = self.frame(0xEC, 0xFF, source, head + pgn.to_bytes(3, "little"))
        return [announce] + [self.packet(n, p, source, 0xFF) for n, p in enumerate(parts, 1)]

    def rts_cts(
        self, payload: bytes, source: int = 3, destination: int = 9, window: int = 4, pgn: int = ADDRESSED_PGN
    ) -> list[Frames]:
        parts = self.parts(payload)
        size, group = len(payload).to_bytes(2, "little"), pgn.to_bytes(3, "little")
        out = [
            self.frame(0xEC, destination, source, bytes([16]) + size + bytes([len(parts), window]) + group)
        ]
        for first in range(1, len(parts) + 1, window):
            n = min(window, len(parts) + 1 - first)
            out.append(self.frame(0xEC, source, destination, bytes([17, n, first, 0xFF, 0xFF]) + group))
            out += [self.packet(k, parts[k - 1], source, destination) for k in range(first, first + n)]
        return [
            *out,
            self.frame(0xEC, source, destination, bytes([19]) + size + bytes([len(parts), 0xFF]) + group),
        ]

    def parts(self, payload: bytes) -> list[bytes]:
        return [payload[n : n + 7].ljust(7, b"\xff") for n in range(0, len(payload), 7)]

    def packet(self, number: int, part: bytes, source: int, destination: int) -> Frames:
        return self.frame(0xEB, destination, source, bytes([number]) + part)

    def claim(self, source: int, name: int) -> Frames:
        return self.frame(0xEE, 0xFF, source, name.to_bytes(8, "little"))

    def frames(self, parts: Iterable[Frames], begin_us: int = 0, every_us: int = 50_000) -> Frames:
        whole = np.concatenate(list(parts))
        whole["time_us"] = begin_us + np.arange(len(whole)) * every_us
        return whole
