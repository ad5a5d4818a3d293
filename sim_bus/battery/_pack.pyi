from sim_bus.doors import FloatArray

CORE_J: int
SURFACE_J: int
COOLANT_J: int
CASE_J: int
TANK_J: int
CORE_SURFACE: int
SURFACE_COOLANT: int
NEIGHBOUR: int
SURFACE_CASE: int
END_CASE: int
CASE_AMBIENT: int
TANK_AMBIENT: int
FLOW: int
PARAMETERS: int

def drains(
    volts: FloatArray,
    leak_a: FloatArray,
    short_s: FloatArray,
    bleed_s: FloatArray,
    bled_a: FloatArray,
    drain_a: FloatArray,
) -> None: ...
def book(
    dt_s: float,
    string_a: FloatArray,
    inner_v: FloatArray,
    heat_w: FloatArray,
    drain_a: FloatArray,
    bled_a: FloatArray,
    busbar_ohm: FloatArray,
    cell_v: FloatArray,
    string_v: FloatArray,
    core_j: FloatArray,
    surface_j: FloatArray,
    case_j: FloatArray,
    passed: FloatArray,
) -> None: ...
def warm(
    dt_s: float,
    p: FloatArray,
    ambient_degc: float,
    flow: float,
    core_j: FloatArray,
    surface_j: FloatArray,
    case_j: FloatArray,
    tank_j: float,
    core: FloatArray,
    surface: FloatArray,
    coolant: FloatArray,
    case: FloatArray,
    tank: FloatArray,
) -> float: ...
