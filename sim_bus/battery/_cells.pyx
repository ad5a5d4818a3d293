# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The kernel: electrochemistry of many cells, each with its own state. The equations: cells.py.

A step is in two halves. `terminal` says what the strings' voltages would be at a trial current at the coming
step's end: everything in it that does not depend on the current ("still") was worked out at the end of the step
before. `advance` gives the cells that current and prepares the next step. Both use `_volts`, so what a solver found
is what it gets. The numpy twin is in tests/sim_bus/battery/test_cells.py.
"""

from libc.math cimport exp, fabs, log, sqrt

cpdef enum:
    MODES = 4       # of diffusion, for each electrode
    LAGS = 2        # electrolyte, and the slow one
    PLAYS = 4       # operators of the hysteresis
    TABLES = 10     # over temperature and state of charge: R, I0n, I0p, TAUn, TAUp, RL1, SL1, RL2, SL2, HYST

cdef enum:          # rows of `tables`
    T_OHM = 0
    T_ANODE_A = 1
    T_CATHODE_A = 2
    T_ANODE_S = 3
    T_CATHODE_S = 4
    T_LAG_OHM = 5   # and 7
    T_LAG_S = 6     # and 8
    T_HYSTERESIS = 9

cdef enum:          # what `prepare` leaves for each cell
    DECAY_N = 0     # MODES
    DECAY_P = 4     # MODES
    DECAY_L = 8     # LAGS
    TAU_N = 10      # tau / 3, s
    TAU_P = 11
    OHM = 12        # purely ohmic
    LAG_OHM = 13    # LAGS
    ANODE_A = 15    # exchange current where the stoichiometry is a half
    CATHODE_A = 16
    HYSTERESIS = 17
    WARMER = 18     # K above 25 degC
    REACH_N = 19    # sum of the modes' weight * (1 - decay)
    REACH_P = 20
    LAG_S = 21      # LAGS
    COEFS = 23

cdef enum:          # "still": of the coming step, without its current
    S_V = 0         # V: hysteresis, entropy, lags
    S_ZN = 1        # surface of the anode
    S_ZP = 2
    S_DZN = 3       # its change with the current, 1/A
    S_DZP = 4
    S_OHM = 5
    S_BN = 6        # 1 / (2 exchange current)
    S_BP = 7
    S_KIN = 8       # 2RT/F
    STILL = 9

cdef double GAS_OVER_FARADAY = 8.314462618 / 96485.33212
cdef double KELVIN = 273.15
cdef double REFERENCE_K = 298.15

# Diffusion into a sphere, from the mean to the surface, over tau/3: 1/(sqrt(s) coth(sqrt(s)) - 1) - 3/s with s in
# 1/tau, which is the sum of 2/(lambda^2 + s), tan(lambda) = lambda. The first mode is that sum's own; the other three
# stand for the rest and were fitted to it from s = 0.1j to 1000j (within 1.4 %; the series cut after four: 96 %).
cdef double[4] POLE = [20.1907, 80.63085835, 378.60996212, 3552.36883004]
cdef double[4] WEIGHT = [0.1019622, 0.05048866, 0.027064, 0.02048514]


def modes():
    """Poles (1/tau) and weights of the diffusion, for the tests."""
    return list(POLE), list(WEIGHT)


cdef class Kernel:
    cdef:
        public Py_ssize_t strings, cells
        double dt_s
        # the cell type
        double first, per_soc                   # the potential grid's first soc, and points per soc
        const double[:, ::1] grid               # (points, 4): cathode V, anode V, entropy V/K, hysteresis V
        Py_ssize_t points
        double an0, an1, ca0, ca1               # stoichiometry at soc 0 and its slope
        const double[::1] width, share          # of the plays
        const double[::1] inv_k, soc_nodes      # nodes of the tables: 1/K falling, soc rising
        const double[:, :, ::1] tables          # ln: (TABLES, temperatures, socs)
        # the cells
        double[::1] soc, capacity, resistance, temp, cell_v, open_v, heat
        double[:, ::1] mode                     # (n, 2 MODES) low-passed current, A
        double[:, ::1] lag                      # (n, LAGS), V
        double[:, ::1] play                     # (n, PLAYS): soc from each play's output
        double[:, ::1] coef
        double[:, ::1] still

    def __init__(self, double first, double per_soc, grid, stoichiometry, width, share, inv_k, soc_nodes, tables):
        self.first, self.per_soc = first, per_soc
        self.grid = grid
        self.points = self.grid.shape[0]
        self.an0, self.an1, self.ca0, self.ca1 = stoichiometry
        self.width, self.share = width, share
        self.inv_k, self.soc_nodes, self.tables = inv_k, soc_nodes, tables

    def bind(self, Py_ssize_t strings, double dt_s, soc, capacity, resistance, temp, cell_v, open_v, heat,
             mode, lag, play, coef, still):
        """The cells' arrays, flat: what is written here is seen there."""
        self.strings, self.dt_s = strings, dt_s
        self.soc, self.capacity, self.resistance, self.temp = soc, capacity, resistance, temp
        self.cell_v, self.open_v, self.heat = cell_v, open_v, heat
        self.mode, self.lag, self.play, self.coef, self.still = mode, lag, play, coef, still
        self.cells = self.soc.shape[0] // strings
        self.prepare()

    cdef inline double _table(self, int row, Py_ssize_t t, Py_ssize_t z, double ft, double fz) noexcept nogil:
        cdef double low = self.tables[row, t, z] + fz * (self.tables[row, t, z + 1] - self.tables[row, t, z])
        cdef double high = self.tables[row, t + 1, z] + fz * (self.tables[row, t + 1, z + 1]
                                                              - self.tables[row, t + 1, z])
        return exp(low + ft * (high - low))

    cdef void _prepare_cell(self, Py_ssize_t n) noexcept nogil:
        """Everything of one cell that depends on its temperature and, slowly, on its state of charge."""
        cdef Py_ssize_t t = 0, z = 0
        cdef Py_ssize_t last_t = self.inv_k.shape[0] - 2, last_z = self.soc_nodes.shape[0] - 2
        cdef double kelvin = self.temp[n] + KELVIN
        cdef double ft, fz, soc = self.soc[n]
        cdef int k
        cdef double* c = &self.coef[n, 0]
        while t < last_t and 1 / kelvin < self.inv_k[t + 1]:
            t += 1
        while z < last_z and soc > self.soc_nodes[z + 1]:
            z += 1
        ft = (1 / kelvin - self.inv_k[t]) / (self.inv_k[t + 1] - self.inv_k[t])
        fz = (soc - self.soc_nodes[z]) / (self.soc_nodes[z + 1] - self.soc_nodes[z])
        ft = min(max(ft, 0.0), 1.0)
        fz = min(max(fz, 0.0), 1.0)
        c[OHM] = self._table(T_OHM, t, z, ft, fz) * self.resistance[n]
        c[ANODE_A] = self._table(T_ANODE_A, t, z, ft, fz) / self.resistance[n]
        c[CATHODE_A] = self._table(T_CATHODE_A, t, z, ft, fz) / self.resistance[n]
        c[TAU_N] = self._table(T_ANODE_S, t, z, ft, fz) / 3
        c[TAU_P] = self._table(T_CATHODE_S, t, z, ft, fz) / 3
        for k in range(LAGS):
            c[LAG_OHM + k] = self._table(T_LAG_OHM + 2 * k, t, z, ft, fz) * self.resistance[n]
            c[LAG_S + k] = self._table(T_LAG_S + 2 * k, t, z, ft, fz)
        c[HYSTERESIS] = self._table(T_HYSTERESIS, t, z, ft, fz)
        c[WARMER] = kelvin - REFERENCE_K
        self.still[S_KIN, n] = 2 * GAS_OVER_FARADAY * kelvin

    cdef void _decays(self, Py_ssize_t n) noexcept nogil:
        cdef int k
        cdef double* c = &self.coef[n, 0]
        c[REACH_N] = c[REACH_P] = 0
        for k in range(MODES):
            c[DECAY_N + k] = exp(-self.dt_s * POLE[k] / (3 * c[TAU_N]))
            c[DECAY_P + k] = exp(-self.dt_s * POLE[k] / (3 * c[TAU_P]))
            c[REACH_N] += WEIGHT[k] * (1 - c[DECAY_N + k])
            c[REACH_P] += WEIGHT[k] * (1 - c[DECAY_P + k])
        for k in range(LAGS):
            c[DECAY_L + k] = exp(-self.dt_s / c[LAG_S + k])

    cdef inline double _place(self, double soc, Py_ssize_t* at) noexcept nogil:
        """Where in the grid: the point before, and how far beyond it (in points). Not a number ends at the first."""
        cdef double x = (soc - self.first) * self.per_soc
        if not x > 0:
            at[0] = 0
        elif x >= self.points - 2:
            at[0] = self.points - 2
        else:
            at[0] = <Py_ssize_t>x
        return x - at[0]

    cdef inline double _exchange(self, double amps, double x) noexcept nogil:
        """1 / (2 exchange current) at the surface's stoichiometry x."""
        x = min(max(x, 0.005), 0.995)
        return 0.25 / (amps * sqrt(x * (1 - x)))

    cdef void _still(self, Py_ssize_t n) noexcept nogil:
        """What of the coming step does not depend on its current; and the open circuit's voltage now."""
        cdef Py_ssize_t at
        cdef int k
        cdef double* c = &self.coef[n, 0]
        cdef double* y = &self.mode[n, 0]
        cdef double per_a = 1 / (3600 * self.capacity[n])
        cdef double zn = 0, zp = 0, now_n = 0, now_p = 0, h = 0, v, ohm = c[OHM]
        cdef double soc = self.soc[n]
        cdef double f = self._place(soc, &at)
        for k in range(PLAYS):
            h += self.share[k] * self.play[n, k] / self.width[k]
        v = (c[HYSTERESIS] * h * (self.grid[at, 3] + f * (self.grid[at + 1, 3] - self.grid[at, 3]))
             + c[WARMER] * (self.grid[at, 2] + f * (self.grid[at + 1, 2] - self.grid[at, 2])))
        self.open_v[n] = (v + self.grid[at, 0] + f * (self.grid[at + 1, 0] - self.grid[at, 0])
                          - self.grid[at, 1] - f * (self.grid[at + 1, 1] - self.grid[at, 1]))
        for k in range(MODES):
            now_n += WEIGHT[k] * y[k]
            now_p += WEIGHT[k] * y[MODES + k]
            zn += WEIGHT[k] * c[DECAY_N + k] * y[k]
            zp += WEIGHT[k] * c[DECAY_P + k] * y[MODES + k]
        for k in range(LAGS):
            v -= c[DECAY_L + k] * self.lag[n, k]
            ohm += (1 - c[DECAY_L + k]) * c[LAG_OHM + k]
        self.still[S_V, n] = v
        self.still[S_ZN, n] = soc - per_a * c[TAU_N] * zn
        self.still[S_ZP, n] = soc - per_a * c[TAU_P] * zp
        self.still[S_DZN, n] = -per_a * (self.dt_s + c[TAU_N] * c[REACH_N])
        self.still[S_DZP, n] = -per_a * (self.dt_s + c[TAU_P] * c[REACH_P])
        self.still[S_OHM, n] = ohm
        self.still[S_BN, n] = self._exchange(c[ANODE_A], self.an0 + self.an1 * (soc - per_a * c[TAU_N] * now_n))
        self.still[S_BP, n] = self._exchange(c[CATHODE_A], self.ca0 + self.ca1 * (soc - per_a * c[TAU_P] * now_p))

    cdef inline double _volts(self, Py_ssize_t n, double amps, double* slope) noexcept nogil:
        """One cell's voltage at the coming step's end, and -dV/dI. asinh a + asinh b is one logarithm."""
        cdef Py_ssize_t p, q
        cdef double fp = self._place(self.still[S_ZP, n] + amps * self.still[S_DZP, n], &p)
        cdef double fq = self._place(self.still[S_ZN, n] + amps * self.still[S_DZN, n], &q)
        cdef double dp = self.grid[p + 1, 0] - self.grid[p, 0]
        cdef double dq = self.grid[q + 1, 1] - self.grid[q, 1]
        cdef double bn = self.still[S_BN, n], bp = self.still[S_BP, n], kin = self.still[S_KIN, n]
        cdef double size = fabs(amps)
        cdef double a = size * bn, b = size * bp
        cdef double ra = sqrt(1 + a * a), rb = sqrt(1 + b * b)
        cdef double kinetic = kin * log((a + ra) * (b + rb))
        if amps < 0:
            kinetic = -kinetic
        slope[0] = (self.still[S_OHM, n] + kin * (bn * rb + bp * ra) / (ra * rb)
                    - self.per_soc * (dp * self.still[S_DZP, n] - dq * self.still[S_DZN, n]))
        return (self.still[S_V, n] + self.grid[p, 0] + fp * dp - self.grid[q, 1] - fq * dq
                - self.still[S_OHM, n] * amps - kinetic)

    cdef void _move(self, Py_ssize_t n, double amps) noexcept nogil:
        cdef int k
        cdef double* c = &self.coef[n, 0]
        cdef double* y = &self.mode[n, 0]
        cdef double moved = amps * self.dt_s / (3600 * self.capacity[n])
        cdef double stretch
        for k in range(MODES):
            y[k] = amps + c[DECAY_N + k] * (y[k] - amps)
            y[MODES + k] = amps + c[DECAY_P + k] * (y[MODES + k] - amps)
        for k in range(LAGS):
            stretch = c[LAG_OHM + k] * amps
            self.lag[n, k] = stretch + c[DECAY_L + k] * (self.lag[n, k] - stretch)
        for k in range(PLAYS):
            stretch = self.play[n, k] - moved
            self.play[n, k] = min(max(stretch, -self.width[k]), self.width[k])
        self.soc[n] -= moved

    cdef void _advance_cell(self, Py_ssize_t n, double amps) noexcept nogil:
        cdef double slope, entropy, f
        cdef Py_ssize_t at
        self.cell_v[n] = self._volts(n, amps, &slope)
        self._move(n, amps)
        self._still(n)
        f = self._place(self.soc[n], &at)
        entropy = self.grid[at, 2] + f * (self.grid[at + 1, 2] - self.grid[at, 2])
        self.heat[n] = amps * (self.open_v[n] - self.cell_v[n] - (self.coef[n, WARMER] + REFERENCE_K) * entropy)

    def prepare(self):
        """Everything that depends on temperatures, the slow part of the state, capacities and resistances."""
        cdef Py_ssize_t n
        for n in range(self.soc.shape[0]):
            self._prepare_cell(n)
            self._decays(n)
            self._still(n)

    def step_s(self, double dt_s):
        """Another length of step from now on."""
        cdef Py_ssize_t n
        if dt_s != self.dt_s:
            self.dt_s = dt_s
            for n in range(self.soc.shape[0]):
                self._decays(n)
                self._still(n)

    def terminal(self, const double[::1] current_a, const double[:, ::1] extra_ohm, const double[:, ::1] drain_a,
                 double[::1] string_v, double[::1] slope_ohm):
        cdef Py_ssize_t s, k, n = 0
        cdef double v, ohm, slope, amps
        for s in range(self.strings):
            v = ohm = 0
            for k in range(self.cells):
                amps = current_a[s]
                if drain_a is not None:
                    amps += drain_a[s, k]
                v += self._volts(n, amps, &slope)
                ohm += slope
                if extra_ohm is not None:
                    v -= extra_ohm[s, k] * current_a[s]
                    ohm += extra_ohm[s, k]
                n += 1
            string_v[s] = v
            slope_ohm[s] = ohm

    def advance(self, const double[::1] current_a, const double[:, ::1] drain_a):
        cdef Py_ssize_t s, k, n = 0
        for s in range(self.strings):
            for k in range(self.cells):
                self._advance_cell(n, current_a[s] + (0.0 if drain_a is None else drain_a[s, k]))
                n += 1

    def run(self, const double[::1] time_s, const double[::1] current_a, const double[::1] temp_degc, double dt_s,
            double every_s, double[::1] voltage_v):
        """The first cell alone, over a file: each row's current flows from the row before to it."""
        cdef Py_ssize_t row, _part, parts
        cdef double gap, waited = every_s
        for row in range(time_s.shape[0]):
            gap = dt_s if row == 0 else time_s[row] - time_s[row - 1]
            parts = max(<Py_ssize_t>(gap / dt_s + 0.999), 1)
            for _part in range(parts):
                if waited >= every_s or fabs(gap / parts - self.dt_s) > 1e-6:
                    self.dt_s = gap / parts
                    self.temp[0] = temp_degc[row]
                    if waited >= every_s:
                        self._prepare_cell(0)
                        waited = 0
                    self._decays(0)
                    self._still(0)
                self._advance_cell(0, current_a[row])
                waited += self.dt_s
            voltage_v[row] = self.cell_v[0]
