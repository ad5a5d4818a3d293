from edge.can.frames import Frames

REASONS: tuple[str, ...]

class Parser:
    channels: list[int]
    damage: str
    def __init__(self, start_us: int) -> None: ...
    @property
    def refused(self) -> dict[str, int]: ...
    def parse(self, block: bytes | bytearray, begin: int, frames: Frames) -> tuple[int, int]: ...
