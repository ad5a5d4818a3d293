# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The kernel: the Kalman filters of every cell of a pack.

Every row of measurements moves what is exact and cheap: the charge, the bent current j, the relaxation y_k,
the hysteresis. The voltage is linear in i, j and y_k, so voltages and these are summed up over a window, and
the filters take in its mean as one sample. Nothing is lost by that but the time (WINDOW seconds).

Eight states per filter
    0 soc   charge that can be taken out, over the capacity
    1 w     the model's faster error over its sd: mostly relaxation that was not seen
    2 e     the model's slow error over its sd
    3 k     this cell's resistance over the model's
    4 h     hysteresis, -1 (after discharge) to 1 (after charge)
    5 u     what the slowest process had seen before the first sample, A: it dies away as that process does
    6 b     error of the counted current that does not scale, in capacities per hour: the sensor's offset
    7 g     error of the counted charge that does, relative: the sensor's gain and the capacity
The first SEEN of them are in the voltage; of the last two only the charge tells.

An extended Kalman filter in Joseph form. Two things differ from the plainest textbook, both because the
OCV bends: its slope is the secant over soc ± sqrt(3) sd, and what the secant misses counts as noise
(statistical linearisation on three points: S. Särkkä, "Bayesian Filtering and Smoothing", Cambridge
2013, chapters 5 and 6). For a small sd that is the derivative. `e` and `w` are shaping filters (first-order
Gauss-Markov): correlated errors of the model do not pass for independent evidence.

Where a correction takes soc beyond 0 or 1, the state is projected on that bound (D. Simon, "Kalman filtering
with state constraints", IET Control Theory and Applications 4, 2010).

A sample beyond 3 sd counts for less (Huber's weight), and for how long that has gone on is counted: the
filter may have lost its cell.

The numpy twin is in tests/edge/battery/test_ekf.py. Nothing here allocates, and nothing that is not
finite enters the state.
"""

from libc.math cimport asinh, exp, fabs, isfinite, log, sqrt

cpdef enum:
    N = 8                # states
    SEEN = 6             # of them, in the voltage
    TABLES = 8           # of one node: ocv, M, R0, Rct, R1..R4
    PROCESSES = 4

cpdef enum:              # columns of `window`: sums over it, of one cell
    SUM_V = 0            # of the samples: the voltage, and the row's ROW numbers
    SUM_I = 1
    SUM_J = 2
    SUM_Y = 3            # and the next three
    SUM_Q = 7            # charge counted in the window when the samples came, As
    COUNT = 8            # samples
    CHARGE = 9           # charge at the window's end
    TURN = 10            # h at the end = TURN * h at the beginning + PULL
    PULL = 11
    FIRST_I = 12
    LAST_I = 13
    UNKNOWN_S = 14       # seconds without a current
    UNKNOWN_N = 15       # samples without a current
    OPEN_S = 16          # seconds with open contactors
    ZERO_S = 17          # of these, with a current to see
    SUM_ZERO = 18        # and what the sensor showed then, As
    COLUMNS = 19

cdef double SQRT3 = 1.7320508075688772
cdef double WINDOW = 5.0
WINDOW_S = WINDOW
cdef double UNKNOWN_C = 0.5          # sd of an unknown current, in capacities per hour
cdef double UNSEEN_C = 0.2           # sd of its mean over an hour
cdef double SOC_SD_MAX = 0.5
cdef double UNKNOWN_TAU_S = 60.0     # and how long it stays the same
cdef double OFFSET_TAU_S = 36000.0   # for how long a sensor's offset is one error
cdef double GAIN_TAU_S = 1e6         # the same of gain and capacity
cdef double ZERO_SD_C = 0.001        # sd of one window's mean of the sensor's zero, in capacities per hour
cdef double SAMPLE_S = 40.0          # for so long a sample's own error (sample_sd_v) stays about the same
cdef double FAST_REL = 0.1           # error of the fast overpotentials, of their own size
cdef double SLOW_REL = 0.03          # the same of all of it, slow: a part of the model's slow error
cdef double SECANT_MIN = 0.01        # half width of the secant: the OCV table's own detail is noise
cdef double SECANT_MAX = 0.5
cdef double MISFIT_TAU_S = 3600.0    # over which the size of the model's errors is judged
cdef double MISFIT_MAX = 100.0
cdef double FLOOR = 1e-6             # of the sds of what dies away: numbers that near nothing cost time
cdef double SMALL = 0.0225           # (i / knee)²
cdef double GATE = 3.0
cdef double K_MIN = 0.05
cdef double K_MAX = 20.0
cdef double CURRENT_MAX_C = 200.0    # beyond these it is a broken sensor, not a cell
cdef double TEMP_MAX_DEGC = 150.0


cdef inline double least(double a, double b) noexcept nogil:
    return a if a < b else b  # one instruction; the C library's fmin is a call


cdef inline double most(double a, double b) noexcept nogil:
    return a if a > b else b


cdef struct Window:
    # what all filters share at the end of a window
    double seconds
    double f[N]                      # the diagonal of F, but for h
    double q[N]                      # 1 - f², times variances that are the same for all


cdef struct Cell:
    # what the filters of one cell share at the end of a window
    const double *below              # the nodes of the temperature below the cell's, and of the one above
    const double *above
    double wt                        # how far the cell is from the one to the other
    double sd_e, sd_w, sd_sample
    double charge                    # that went out, in capacities
    double turn, pull
    double unknown_s
    double phi[TABLES]               # mean of what each table is multiplied with; ocv and M: 0
    double v, later                  # mean voltage; charge that went out after the mean sample, in capacities
    double jump                      # the current's change in the window, over the number of samples
    double unknown_a                 # sd of the mean of currents that were not known
    double zero_c                    # mean of the sensor's zero, in capacities per hour
    bint sampled, opened, zeroed
    bint alone                       # one filter is left: its likelihood is beside the point


cdef class Kernel:
    """A cell model's tables, laid out for the filters."""

    cdef double[::1] clock, temp, soc, soc_sd, waited_s, surprise_s, misfit, score
    cdef const double[::1] capacity_ah
    cdef const long long[::1] string, cell
    cdef double[:, ::1] relaxation_a, window, x
    cdef double[:, :, ::1] p
    cdef const double[:, :, ::1] nodes
    cdef const double[::1] knee, model_sd, relaxation_sd, sample_sd
    cdef double tau[PROCESSES]
    cdef Py_ssize_t slowest
    cdef bint hysteretic
    cdef double t_first, t_step, s_step
    cdef Py_ssize_t n_temp, n_soc
    cdef double volt_low, volt_high, rate, capacity
    cdef double model_tau, relaxation_tau, axis_sd, k_sd, k_tau, h_sd, offset_c, gain_sd

    def __init__(self, model, nodes):
        """`nodes` [temperature, soc, TABLES]: ocv, M, R0, Rct, R1..R4 of the model."""
        cdef Py_ssize_t k
        u = model.uncertainty
        self.nodes = nodes
        self.knee = model.knee_a
        self.model_sd, self.relaxation_sd = model.model_sd_v, model.relaxation_sd_v
        self.sample_sd = model.sample_sd_v
        for k in range(PROCESSES):
            self.tau[k] = model.tau_s[k] if k < len(model.tau_s) else 1.0
        self.slowest = len(model.tau_s) - 1
        self.hysteretic = bool(model.hysteresis_v.any())  # where nothing turns on h, it stays
        self.n_temp, self.n_soc = len(model.temp_degc), len(model.soc)
        self.t_first = model.temp_degc[0]
        self.t_step = model.temp_degc[1] - model.temp_degc[0]
        self.s_step = model.soc[1] - model.soc[0]
        # beyond these a voltage is a broken sensor, not a cell
        self.volt_low, self.volt_high = 0.5 * model.voltage_min_v, 1.2 * model.voltage_max_v
        self.rate, self.capacity = model.hysteresis_rate, model.capacity_ah
        self.model_tau, self.relaxation_tau, self.axis_sd = u.model_tau_s, u.relaxation_tau_s, u.axis_sd
        self.k_sd, self.k_tau = u.resistance_rel_sd, u.resistance_tau_s
        self.h_sd, self.offset_c = u.hysteresis_sd, u.current_offset_c
        self.gain_sd = sqrt(model.capacity_rel_sd ** 2 + u.current_gain_sd ** 2)

    def bind(
        self,
        double[::1] clock,
        const long long[::1] string,
        const double[::1] capacity_ah,
        double[::1] temp,
        double[:, ::1] relaxation_a,
        double[:, ::1] window,
        double[::1] soc,
        double[::1] soc_sd,
        double[:, ::1] x,
        double[:, :, ::1] p,
        const long long[::1] cell,
        double[::1] waited_s,
        double[::1] surprise_s,
        double[::1] misfit,
        double[::1] score,
    ):
        """The arrays that `advance` and `mix` work on, all changed in place but those marked *.

        Parameters
        ----------
        clock : [2] seconds in the open window, and of done windows since the last pause
        string* : [n]; capacity_ah* : [n]; temp : [n] last known
        relaxation_a : [n, 4] y_k; window : [n, COLUMNS] sums
        soc, soc_sd : [n] the estimate
        x : [r, 8] states; p : [r, 8, 8] covariances
        cell* : [r] of each filter, 0 to n-1, rising
        waited_s : [r] time since the last sample
        surprise_s : [r] for how long samples have been out of bounds
        misfit : [r] mean square of the model's errors, over what the model says of them
        score : [r] ln of the likelihood of all samples so far
        """
        self.clock, self.string, self.capacity_ah, self.temp = clock, string, capacity_ah, temp
        self.relaxation_a, self.window, self.soc, self.soc_sd = relaxation_a, window, soc, soc_sd
        self.x, self.p, self.cell = x, p, cell
        self.waited_s, self.surprise_s, self.misfit, self.score = waited_s, surprise_s, misfit, score

    def advance(
        self,
        const double[::1] dt_s,
        const double[:, ::1] current_a,
        const double[:, ::1] voltage_v,
        const double[:, ::1] temp_degc,
        const double[:, ::1] balancing_a,
        const unsigned char[:, ::1] opened,
        double[:, ::1] out_soc,
        double[:, ::1] out_sd,
        double pause_s,
    ):
        """Go through rows of measurements until `pause_s` seconds of windows are done; returns how many rows.

        Parameters
        ----------
        dt_s : [rows] since the row before, at least 0
        current_a : [rows, S] of one cell of each string, positive = discharge; NaN = unknown
        voltage_v : [rows, n]; NaN = no new sample
        temp_degc : [rows, n]; NaN = as last known
        balancing_a : [rows, n] what flows out of the cell beside the string's current; None: nothing does
        opened : [rows, S] the string's contactors are open: the sensor shows its zero; None: closed
        out_soc, out_sd : [rows, n] the estimate at each row; None: not wanted
        """
        cdef Py_ssize_t row, c, done = 0
        cdef bint balanced = balancing_a is not None
        cdef bint may_open = opened is not None
        cdef bint wanted = out_soc is not None
        with nogil:
            for row in range(dt_s.shape[0]):
                self._row(
                    dt_s[row], &current_a[row, 0], &voltage_v[row, 0], &temp_degc[row, 0],
                    &balancing_a[row, 0] if balanced else NULL, &opened[row, 0] if may_open else NULL,
                )
                self.clock[0] += dt_s[row]
                done = row + 1
                if self.clock[0] >= WINDOW:
                    self._close(self.clock[0])
                    self._mix()
                    self.clock[1] += self.clock[0]
                    self.clock[0] = 0.0
                if wanted:
                    for c in range(self.soc.shape[0]):
                        out_soc[row, c] = self.soc[c]
                        out_sd[row, c] = self.soc_sd[c]
                if self.clock[0] == 0.0 and self.clock[1] >= pause_s:
                    self.clock[1] = 0.0
                    break
        return done

    def mix(self):
        """Mean and sd of the guesses of each cell, into soc and soc_sd."""
        with nogil:
            self._mix()

    cdef void _row(
        self, double dt, const double* current, const double* voltage, const double* temps,
        const double* balancing, const unsigned char* opened,
    ) noexcept nogil:
        """What one row of measurements changes: sums of the window, and the charge."""
        cdef Py_ssize_t c, k
        cdef double keep[PROCESSES]
        cdef double lose[PROCESSES]
        cdef double row[SUM_Q + 1]
        cdef double i, scaled = 0.0, out = 0.0, j = 0.0, turn = 1.0, pull = 0.0
        cdef double i_before = 0.0, t_before = 0.0, q_before = 0.0  # of the five above
        cdef bint fresh = True, moved, known, open_
        cdef double* w
        cdef double* y
        cdef double* window = &self.window[0, 0]
        cdef double* relaxation = &self.relaxation_a[0, 0]
        cdef double* temp = &self.temp[0]
        cdef double* soc = &self.soc[0]
        cdef const double* capacity_ah = &self.capacity_ah[0]
        cdef const long long* string = &self.string[0]
        cdef Py_ssize_t n = self.soc.shape[0]
        for k in range(PROCESSES):
            keep[k] = exp(-dt / self.tau[k])
            lose[k] = 1.0 - keep[k]
        # plain pointers: the compiler knows that they stay
        for c in range(n):
            w, y = window + c * COLUMNS, relaxation + c * PROCESSES
            if fabs(temps[c]) <= TEMP_MAX_DEGC:  # NaN: no
                temp[c] = temps[c]
            i = current[string[c]]
            known = fabs(i) <= CURRENT_MAX_C * capacity_ah[c]
            open_ = opened != NULL and opened[string[c]] != 0
            if open_:
                w[OPEN_S] += dt
                if known:
                    w[ZERO_S] += dt
                    w[SUM_ZERO] += i * dt
                i, known = 0.0, True
            elif not known:
                i = 0.0
                w[UNKNOWN_S] += dt
            if balancing != NULL and isfinite(balancing[c]):
                i += balancing[c]
            moved = fresh or i != i_before or capacity_ah[c] != q_before
            if moved:
                fresh, i_before, q_before = False, i, capacity_ah[c]
                scaled = i * self.capacity / q_before  # resistances go with one over the capacity
                out = i * dt / (3600.0 * q_before)
                if self.hysteretic:
                    turn = exp(-self.rate * fabs(out))
                    pull = (1.0 - turn) * ((1.0 if i < 0.0 else 0.0) - (1.0 if i > 0.0 else 0.0))
            if moved or temp[c] != t_before:
                t_before = temp[c]
                j = self._bent(scaled, t_before)
            for k in range(PROCESSES):
                y[k] = keep[k] * y[k] + lose[k] * j
            w[CHARGE] += i * dt
            if self.hysteretic:
                w[TURN] *= turn
                w[PULL] = turn * w[PULL] + pull
            soc[c] = least(most(soc[c] - out, 0.0), 1.0)
            if voltage[c] >= self.volt_low and voltage[c] <= self.volt_high:  # NaN: no
                row[SUM_V], row[SUM_I], row[SUM_J], row[SUM_Q] = voltage[c], i, j, w[CHARGE]
                for k in range(PROCESSES):
                    row[SUM_Y + k] = y[k]
                for k in range(SUM_Q + 1):
                    w[k] += row[k]
                if w[COUNT] == 0.0:
                    w[FIRST_I] = i
                w[LAST_I] = i
                w[COUNT] += 1.0
                if not known:
                    w[UNKNOWN_N] += 1.0

    cdef inline double _place(self, double temp, Py_ssize_t* t) noexcept nogil:
        """The row of the tables below a temperature, and how far it is from there to the next."""
        cdef double place = least(most((temp - self.t_first) / self.t_step, 0.0), <double>(self.n_temp - 1))
        t[0] = min(<Py_ssize_t>place, self.n_temp - 2)
        return place - t[0]

    cdef inline double _bent(self, double i, double temp) noexcept nogil:
        cdef Py_ssize_t t
        cdef double wt = self._place(temp, &t)
        cdef double x = i / (self.knee[t] * (1.0 - wt) + self.knee[t + 1] * wt)
        cdef double z = x * x
        if z < SMALL:  # asinh's series, to ten digits
            return i * (1.0 - z * (1.0 / 6 - z * (3.0 / 40 - z * (15.0 / 336 - z * (105.0 / 3456)))))
        return i * asinh(x) / x

    cdef void _close(self, double seconds) noexcept nogil:
        """The window's end: every filter predicts, and those whose cell had a voltage correct."""
        cdef Window s
        cdef Cell c
        cdef Py_ssize_t r, n
        cdef long long before = -1
        self._share(&s, seconds)
        for r in range(self.x.shape[0]):
            if self.cell[r] != before:
                before = self.cell[r]
                self._gather(
                    &c, seconds, self.capacity_ah[before], self.temp[before], &self.window[before, 0]
                )
                c.alone = r + 1 == self.cell.shape[0] or self.cell[r + 1] != before
            self._predict(&s, &c, &self.x[r, 0], &self.p[r, 0, 0], most(self.misfit[r], 1.0))
            if c.zeroed:
                self._zero(c.zero_c, &self.x[r, 0], &self.p[r, 0, 0])
            self.waited_s[r] += seconds
            if c.sampled:
                self._correct(
                    &c, &self.x[r, 0], &self.p[r, 0, 0], self.waited_s[r], &self.surprise_s[r], &self.score[r]
                )
                self.misfit[r] = self._judge(
                    self.misfit[r], self.waited_s[r], &self.x[r, 0], &self.p[r, 0, 0]
                )
                self.waited_s[r] = 0.0
            self._mirror(&self.p[r, 0, 0])
        for n in range(self.window.shape[0]):
            for r in range(COLUMNS):
                self.window[n, r] = 0.0
            self.window[n, TURN] = 1.0

    cdef inline void _mirror(self, double* p) noexcept nogil:
        cdef Py_ssize_t a, b
        for a in range(1, N):
            for b in range(a):
                p[a * N + b] = p[b * N + a]

    cdef void _share(self, Window* s, double dt) noexcept nogil:
        s.seconds = dt
        s.f[0] = 1.0
        s.f[1], s.f[2] = exp(-dt / self.relaxation_tau), exp(-dt / self.model_tau)
        s.f[3], s.f[4] = exp(-dt / self.k_tau), 1.0
        s.f[5] = exp(-dt / self.tau[self.slowest])
        s.f[6], s.f[7] = exp(-dt / OFFSET_TAU_S), exp(-dt / GAIN_TAU_S)
        s.q[0] = s.q[4] = 0.0
        s.q[1], s.q[2] = 1.0 - s.f[1] * s.f[1], 1.0 - s.f[2] * s.f[2]
        s.q[3] = (1.0 - s.f[3] * s.f[3]) * self.k_sd * self.k_sd
        s.q[5] = (1.0 - s.f[5] * s.f[5]) * (FLOOR * self.capacity) ** 2
        s.q[6] = (1.0 - s.f[6] * s.f[6]) * self.offset_c * self.offset_c
        s.q[7] = (1.0 - s.f[7] * s.f[7]) * self.gain_sd * self.gain_sd

    cdef void _gather(
        self, Cell* c, double seconds, double capacity, double temp, const double* w
    ) noexcept nogil:
        """One cell's window, as the filters take it."""
        cdef Py_ssize_t t, k
        cdef double wt = self._place(temp, &t)
        cdef double count = w[COUNT]
        cdef double scale = self.capacity / capacity
        c.below, c.above, c.wt = &self.nodes[t, 0, 0], &self.nodes[t + 1, 0, 0], wt
        c.sd_e = self.model_sd[t] * (1.0 - wt) + self.model_sd[t + 1] * wt
        c.sd_w = self.relaxation_sd[t] * (1.0 - wt) + self.relaxation_sd[t + 1] * wt
        c.sd_sample = self.sample_sd[t] * (1.0 - wt) + self.sample_sd[t + 1] * wt
        c.charge = w[CHARGE] / (3600.0 * capacity)
        c.turn, c.pull, c.unknown_s = w[TURN], w[PULL], w[UNKNOWN_S]
        c.opened = w[OPEN_S] > 0.5 * seconds
        c.zeroed = w[ZERO_S] > 0.0
        c.zero_c = w[SUM_ZERO] / (w[ZERO_S] * capacity) if c.zeroed else 0.0
        c.sampled = count > 0.0
        if not c.sampled:
            return
        c.v = w[SUM_V] / count
        c.phi[0] = c.phi[1] = 0.0
        c.phi[2], c.phi[3] = w[SUM_I] * scale / count, w[SUM_J] / count
        for k in range(PROCESSES):
            c.phi[4 + k] = w[SUM_Y + k] / count
        c.later = (w[CHARGE] - w[SUM_Q] / count) / (3600.0 * capacity)
        c.jump = (w[LAST_I] - w[FIRST_I]) * scale / count
        c.unknown_a = UNKNOWN_C * self.capacity * w[UNKNOWN_N] / count

    cdef inline double _look_ocv(self, const Cell* c, double soc) noexcept nogil:
        """The OCV alone; tables are bilinear and held at the edges."""
        cdef double place = least(most(soc / self.s_step, 0.0), <double>(self.n_soc - 1))
        cdef Py_ssize_t s = min(<Py_ssize_t>place, self.n_soc - 2)
        cdef double ws = place - s
        cdef const double* low = c.below + s * TABLES
        cdef const double* high = c.above + s * TABLES
        return (
            (low[0] * (1.0 - ws) + low[TABLES] * ws) * (1.0 - c.wt)
            + (high[0] * (1.0 - ws) + high[TABLES] * ws) * c.wt
        )

    cdef void _predict(
        self, const Window* s, const Cell* c, double* x, double* p, double misfit
    ) noexcept nogil:
        cdef double g6 = 0.0 if c.opened else -s.seconds / 3600.0
        cdef double g7 = -c.charge
        cdef double f[N]
        cdef double m[N]
        cdef double unseen
        cdef Py_ssize_t a, b

        for a in range(N):
            f[a] = s.f[a]
        f[4] = c.turn
        x[0] = least(most(x[0] - c.charge * (1.0 + x[7]) + g6 * x[6], 0.0), 1.0)
        x[3] -= 1.0
        for a in range(1, N):
            x[a] *= f[a]
        x[3] += 1.0
        x[4] += c.pull

        # P = F P F' + Q. F has f on its diagonal, and beside it only dsoc/db and dsoc/dg. Above the diagonal
        # only: the rest is its mirror.
        for b in range(6):
            m[b] = p[b] + g6 * p[b * N + 6] + g7 * p[b * N + 7]
        m[6] = p[6] + g6 * p[6 * N + 6] + g7 * p[6 * N + 7]
        m[7] = p[7] + g6 * p[6 * N + 7] + g7 * p[7 * N + 7]
        p[0] = m[0] + g6 * m[6] + g7 * m[7]
        for b in range(1, N):
            p[b] = m[b] * f[b]
        for a in range(1, N):
            for b in range(a, N):
                p[a * N + b] *= f[a] * f[b]

        p[0] += (UNKNOWN_C / 3600.0) ** 2 * 2.0 * UNKNOWN_TAU_S * c.unknown_s
        # what flowed unseen is in the slowest process, too
        unseen = UNSEEN_C * self.capacity * sqrt(c.unknown_s / most(s.seconds, 1e-9))
        p[5 * N + 5] += (1.0 - f[5] * f[5]) * unseen * unseen
        p[N + 1] += s.q[1] * misfit
        p[2 * N + 2] += s.q[2] * misfit
        p[4 * N + 4] += (1.0 - c.turn * c.turn) * (self.h_sd * self.h_sd + FLOOR * FLOOR)
        p[3 * N + 3] += s.q[3]
        for a in range(5, N):
            p[a * N + a] += s.q[a]
        if p[0] > SOC_SD_MAX * SOC_SD_MAX:  # nothing is less known than that: row and column shrink alike
            m[0] = SOC_SD_MAX / sqrt(p[0])
            p[0] *= m[0]
            for b in range(N):
                p[b] *= m[0]

    cdef inline double _judge(
        self, double misfit, double dt, const double* x, const double* p
    ) noexcept nogil:
        """The mean square of the model's errors, as they turn out to be.

        The step of the EM algorithm for the variance of a hidden state (R. Shumway, D. Stoffer, Journal of
        Time Series Analysis 3, 1982), forgetting.
        """
        cdef double size = 0.5 * (x[1] * x[1] + p[N + 1] + x[2] * x[2] + p[2 * N + 2])
        return least(misfit + dt / (dt + MISFIT_TAU_S) * (size - misfit), MISFIT_MAX)

    cdef void _zero(self, double zero_c, double* x, double* p) noexcept nogil:
        """The contactors are open: the sensor shows its own zero, which is -b."""
        cdef double ph[N]
        cdef Py_ssize_t a
        for a in range(7):
            ph[a] = -p[a * N + 6]
        ph[7] = -p[6 * N + 7]
        self._joseph(x, p, ph, p[6 * N + 6], zero_c + x[6], ZERO_SD_C * ZERO_SD_C)
        x[0] = least(most(x[0], 0.0), 1.0)

    cdef inline void _joseph(
        self, double* x, double* p, const double* ph, double seen, double nu, double r
    ) noexcept nogil:
        """(I - K H) P (I - K H)' + K R K', multiplied out for one measurement: ph = P H', seen = H P H'."""
        cdef double gain[N]
        cdef double rest[N]
        cdef double certainty = 1.0 / (seen + r)
        cdef Py_ssize_t a, b
        for a in range(N):
            gain[a] = ph[a] * certainty
            rest[a] = (seen + r) * gain[a] - ph[a]
            x[a] += gain[a] * nu
        for a in range(N):
            for b in range(a, N):
                p[a * N + b] += rest[a] * gain[b] - gain[a] * ph[b]

    cdef void _correct(
        self, const Cell* c, double* x, double* p, double waited, double* surprise, double* score
    ) noexcept nogil:
        cdef double soc = least(most(x[0] + c.later, 0.0), 1.0)  # when the samples came, on the mean
        cdef double place = least(most(soc / self.s_step, 0.0), <double>(self.n_soc - 1))
        cdef Py_ssize_t s = min(<Py_ssize_t>place, self.n_soc - 2)
        cdef double ws = place - s
        cdef const double* low_node = c.below + s * TABLES
        cdef const double* high_node = c.above + s * TABLES
        cdef double node[TABLES]
        cdef double half = least(most(SQRT3 * sqrt(most(p[0], 0.0)), SECANT_MIN), SECANT_MAX)
        cdef double low = least(most(soc - half, 0.0), 1.0 - SECANT_MIN)
        cdef double high = most(least(soc + half, 1.0), SECANT_MIN)
        cdef double ocv_low = self._look_ocv(c, low)
        cdef double ocv_high = self._look_ocv(c, high)
        cdef double slope = (ocv_high - ocv_low) / (high - low)
        cdef double eta = 0.0, ohm = 0.0
        cdef double miss_low, miss_high, r, nu, var, size
        cdef double h[SEEN]
        cdef double ph[N]
        cdef double seen = 0.0
        cdef Py_ssize_t a, b

        for a in range(TABLES):
            node[a] = (
                (low_node[a] * (1.0 - ws) + low_node[TABLES + a] * ws) * (1.0 - c.wt)
                + (high_node[a] * (1.0 - ws) + high_node[TABLES + a] * ws) * c.wt
            )
            eta += node[a] * c.phi[a]
        for a in range(2, TABLES):
            ohm += node[a]
        miss_low = ocv_low - node[0] - slope * (low - soc)
        miss_high = ocv_high - node[0] - slope * (high - soc)
        r = c.sd_sample * c.sd_sample * most(SAMPLE_S / most(waited, 1e-3), 1.0)
        r += (miss_low * miss_low + miss_high * miss_high) / 6.0
        size = fabs(node[2] * c.phi[2]) + fabs(node[3] * c.phi[3]) + fabs(node[4] * c.phi[4])
        r += (FAST_REL * size) ** 2 + (node[2] * c.jump) ** 2 + (ohm * c.unknown_a) ** 2
        h[0] = slope  # how the resistances change with soc is no evidence: their tables are not that good
        eta += node[4 + self.slowest] * x[5]
        h[1] = c.sd_w
        h[2] = sqrt(c.sd_e * c.sd_e + (self.axis_sd * slope) ** 2 + (SLOW_REL * eta) ** 2)
        h[3], h[4], h[5] = -eta, node[1], -x[3] * node[4 + self.slowest]
        nu = c.v - (node[0] + h[1] * x[1] + h[2] * x[2] - x[3] * eta + node[1] * x[4])
        for a in range(N):
            ph[a] = 0.0
        for a in range(SEEN):
            ph[a] += p[a * N + a] * h[a]
            for b in range(a + 1, SEEN):
                ph[a] += p[a * N + b] * h[b]
                ph[b] += p[a * N + b] * h[a]
            ph[6] += p[a * N + 6] * h[a]
            ph[7] += p[a * N + 7] * h[a]
        for a in range(SEEN):
            seen += h[a] * ph[a]
        var = seen + r
        if not isfinite(nu) or not isfinite(var) or var <= 0.0:
            return
        if nu * nu > GATE * GATE * var:
            size = fabs(nu) / (GATE * sqrt(var))
            surprise[0] += waited
            r += (size - 1.0) * var
            var *= size
        else:
            surprise[0] = most(surprise[0] - 2.0 * waited, 0.0)
        if not c.alone:
            score[0] -= 0.5 * (nu * nu / var + least(waited / SAMPLE_S, 1.0) * log(var))
        self._joseph(x, p, ph, seen, nu, r)
        # No soc beyond 0 and 1: what it may not explain, the other states do (projection on the bound)
        size = least(most(x[0], 0.0), 1.0) - x[0]
        if size != 0.0 and p[0] > 0.0:
            for a in range(1, N):
                x[a] += p[a] / p[0] * size
        x[0] += size
        x[4] = least(most(x[4], -1.0), 1.0)
        x[3] = least(most(x[3], K_MIN), K_MAX)

    cdef void _mix(self) noexcept nogil:
        """Mean and sd of each cell's guesses, weighted by their likelihood; less what has gone out since."""
        cdef Py_ssize_t r = 0, a, first
        cdef Py_ssize_t rows = self.x.shape[0]
        cdef long long c
        cdef double best, weight, total, mean, square
        while r < rows:
            c, first, best = self.cell[r], r, self.score[r]
            while r < rows and self.cell[r] == c:
                best = most(best, self.score[r])
                r += 1
            if r == first + 1:
                self.soc[c] = self._now(c, self.x[first, 0])
                self.soc_sd[c] = sqrt(most(self.p[first, 0, 0], 0.0))
                continue
            total = mean = square = 0.0
            for a in range(first, r):
                weight = exp(self.score[a] - best)
                total += weight
                mean += weight * self.x[a, 0]
            mean /= total
            for a in range(first, r):
                weight = exp(self.score[a] - best)
                square += weight * (most(self.p[a, 0, 0], 0.0) + (self.x[a, 0] - mean) ** 2)
            self.soc[c] = self._now(c, mean)
            self.soc_sd[c] = sqrt(square / total)

    cdef inline double _now(self, long long c, double soc) noexcept nogil:
        soc -= self.window[c, CHARGE] / (3600.0 * self.capacity_ah[c])
        return least(most(soc, 0.0), 1.0)
