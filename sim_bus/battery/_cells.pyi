from sim_bus.doors import FloatArray

MODES: int
LAGS: int
PLAYS: int
TABLES: int

def modes() -> tuple[list[float], list[float]]: ...

class Kernel:
    strings: int
    cells: int
    def __init__(
        self,
        first: float,
        per_soc: float,
        grid: FloatArray,
        stoichiometry: tuple[float, float, float, float],
        width: FloatArray,
        share: FloatArray,
        inv_k: FloatArray,
        soc_nodes: FloatArray,
        tables: FloatArray,
    ) -> None: ...
    def bind(
        self,
        strings: int,
        dt_s: float,
        soc: FloatArray,
        capacity: FloatArray,
        resistance: FloatArray,
        temp: FloatArray,
        cell_v: FloatArray,
        open_v: FloatArray,
        heat: FloatArray,
        mode: FloatArray,
        lag: FloatArray,
        play: FloatArray,
        coef: FloatArray,
        still: FloatArray,
    ) -> None: ...
    def prepare(self) -> None: ...
    def step_s(self, dt_s: float) -> None: ...
    def terminal(
        self,
        current_a: FloatArray,
        extra_ohm: FloatArray | None,
        drain_a: FloatArray | None,
        string_v: FloatArray,
        slope_ohm: FloatArray,
    ) -> None: ...
    def advance(self, current_a: FloatArray, drain_a: FloatArray | None) -> None: ...
    def run(
        self,
        time_s: FloatArray,
        current_a: FloatArray,
        temp_degc: FloatArray,
        dt_s: float,
        every_s: float,
        voltage_v: FloatArray,
    ) -> None: ...
