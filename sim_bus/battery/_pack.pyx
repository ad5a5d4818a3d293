# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The pack's loops over cells: what flows beside the string's current, where heat comes up, and how it moves.

The numpy twins are in tests/sim_bus/battery/test_pack_kernel.py.
"""

cpdef enum:             # parameters of `warm`: J/K, and W/K
    CORE_J = 0          # of one cell
    SURFACE_J = 1
    COOLANT_J = 2       # plate and coolant under one cell
    CASE_J = 3          # of one string's
    TANK_J = 4          # of the loop outside the strings
    CORE_SURFACE = 5
    SURFACE_COOLANT = 6
    NEIGHBOUR = 7       # surface to the next cell's surface
    SURFACE_CASE = 8
    END_CASE = 9        # of the two end cells, besides
    CASE_AMBIENT = 10
    TANK_AMBIENT = 11
    FLOW = 12           # through one string: mass flow times heat capacity, at full flow
    PARAMETERS = 13


def drains(const double[:, ::1] volts, const double[:, ::1] leak_a, const double[:, ::1] short_s,
           const double[:, ::1] bleed_s, double[:, ::1] bled_a, double[:, ::1] drain_a):
    """What leaves each cell beside the string's current in the coming step, by its own voltage now.

    bled_a: through its balancing resistor; drain_a: that, its leakage and its short circuit.
    """
    cdef Py_ssize_t s, n
    for s in range(volts.shape[0]):
        for n in range(volts.shape[1]):
            bled_a[s, n] = volts[s, n] * bleed_s[s, n]
            drain_a[s, n] = bled_a[s, n] + volts[s, n] * short_s[s, n] + leak_a[s, n]


def book(double dt_s, const double[::1] string_a, const double[:, ::1] inner_v, const double[:, ::1] heat_w,
         const double[:, ::1] drain_a, const double[:, ::1] bled_a, const double[:, ::1] busbar_ohm,
         double[:, ::1] cell_v, double[::1] string_v, double[:, ::1] core_j, double[:, ::1] surface_j,
         double[::1] case_j, double[:, ::1] passed):
    """After a step: the voltages as measured, their sums, and the step's heat added to where it came up.

    Leakage and shorts heat the cell's core, a loose busbar its surface, balancing resistors the case.
    passed (strings, 3): charge out, charge in (positive), As; and the square of the current, A2 s.
    """
    cdef Py_ssize_t s, n
    cdef double total, bled, drop
    for s in range(inner_v.shape[0]):
        total = bled = 0
        passed[s, 0] += dt_s * max(string_a[s], 0.0)
        passed[s, 1] -= dt_s * min(string_a[s], 0.0)
        passed[s, 2] += dt_s * string_a[s] * string_a[s]
        for n in range(inner_v.shape[1]):
            drop = busbar_ohm[s, n] * string_a[s]
            core_j[s, n] += dt_s * (heat_w[s, n] + inner_v[s, n] * (drain_a[s, n] - bled_a[s, n]))
            surface_j[s, n] += dt_s * drop * string_a[s]
            bled += inner_v[s, n] * bled_a[s, n]
            cell_v[s, n] = inner_v[s, n] - drop
            total += cell_v[s, n]
        string_v[s] = total
        case_j[s] += dt_s * bled


def warm(double dt_s, const double[::1] p, double ambient_degc, double flow,
         const double[:, ::1] core_j, const double[:, ::1] surface_j, const double[::1] case_j, double tank_j,
         double[:, ::1] core, double[:, ::1] surface, double[:, ::1] coolant, double[::1] case, double[::1] tank):
    """Let heat flow for dt_s, in which core_j, surface_j, case_j, tank_j came up; returns what the ambient got, J.

    The coolant is implicit (it passes many cells in a second), swept the way that it flows; the rest is explicit.
    Every flow is taken from one node and given to another: nothing is lost but to the ambient.
    """
    cdef Py_ssize_t s, n, last = core.shape[1] - 1
    cdef double carried = dt_s * flow * p[FLOW]         # J/K: what passes
    cdef double dips = dt_s * p[SURFACE_COOLANT]
    cdef double first = tank[0], upstream, out, into_case, before, after, inner, lost, came = tank_j
    lost = dt_s * p[TANK_AMBIENT] * (first - ambient_degc)
    tank[0] -= lost / p[TANK_J]
    for s in range(core.shape[0]):
        upstream = first
        into_case = case_j[s]
        before = 0
        for n in range(last + 1):
            coolant[s, n] = ((p[COOLANT_J] * coolant[s, n] + carried * upstream + dips * surface[s, n])
                             / (p[COOLANT_J] + carried + dips))
            inner = dt_s * p[CORE_SURFACE] * (core[s, n] - surface[s, n])
            out = dt_s * p[SURFACE_CASE] * (surface[s, n] - case[s])
            if n == 0:
                out += dt_s * p[END_CASE] * (surface[s, n] - case[s])
            if n == last:
                out += dt_s * p[END_CASE] * (surface[s, n] - case[s])
            after = dt_s * p[NEIGHBOUR] * (surface[s, n] - surface[s, n + 1]) if n < last else 0.0
            core[s, n] += (core_j[s, n] - inner) / p[CORE_J]
            surface[s, n] += (surface_j[s, n] + inner + before - after - out
                              - dips * (surface[s, n] - coolant[s, n])) / p[SURFACE_J]
            into_case += out
            before = after
            upstream = coolant[s, n]
        came += carried * (upstream - first)
        out = dt_s * p[CASE_AMBIENT] * (case[s] - ambient_degc)
        case[s] += (into_case - out) / p[CASE_J]
        lost += out
    tank[0] += came / p[TANK_J]
    return lost
