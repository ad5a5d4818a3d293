# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The kernel: one step of the Kalman filter of every cell.

Seven states per cell
    0 soc   charge that can be taken out, over the capacity
    1 v1    overpotential of the fast branch, V
    2 v2    overpotential of the slow branch, V
    3 h     hysteresis, -1 (after discharge) to 1 (after charge)
    4 e     the model's slow error, V
    5 k     this cell's resistance over the model's
    6 b     error of the counted current, in capacities per hour: the sensor's offset, mostly

An extended Kalman filter in Joseph form. Two things differ from the plainest textbook, both because the
OCV bends: its slope is the secant over soc ± sqrt(3) sd, and what the secant misses counts as noise
(statistical linearisation on three points: S. Särkkä, "Bayesian Filtering and Smoothing", Cambridge
2013, chapters 5 and 6). For a small sd that is the derivative. `e` is a shaping filter (first-order
Gauss-Markov): correlated errors of the model do not pass for independent evidence.

Where a correction takes soc beyond 0 or 1, the state is projected on that bound (D. Simon, "Kalman filtering
with state constraints", IET Control Theory and Applications 4, 2010).

A sample beyond 3 sd counts for less (Huber's weight), and for how long that has gone on is counted: the
filter may have lost its cell.

The numpy twin is in tests/edge/battery/test_ekf.py. Nothing here allocates, and nothing that is not
finite enters the state.
"""

from libc.math cimport asinh, exp, fabs, isfinite, log, sqrt

cdef enum:
    N = 7

cdef double SQRT3 = 1.7320508075688772
cdef double UNKNOWN_C = 0.5          # sd of an unknown current, in capacities per hour
cdef double UNKNOWN_TAU_S = 60.0     # and how long it stays the same
cdef double OFFSET_TAU_S = 36000.0   # for how long a sensor's offset is one error
cdef double SWING = 0.5              # soc swing over which the error of the capacity is one error
cdef double SAMPLE_S = 10.0          # the time that sample_sd_v belongs to
cdef double SECANT_MIN = 0.01        # half width of the secant: the OCV table's own detail is noise
cdef double SECANT_MAX = 0.5
cdef double GATE = 3.0
cdef double K_MIN = 0.2
cdef double K_MAX = 5.0


cdef inline double least(double a, double b) noexcept nogil:
    return a if a < b else b  # one instruction; the C library's fmin is a call


cdef inline double most(double a, double b) noexcept nogil:
    return a if a > b else b


cdef struct Shared:
    # of all filters with the same capacity, current and temperature, in one step
    double capacity, current, temp
    const double *ocv                # the rows of the tables below `temp`
    const double *gap
    const double *r0
    const double *r1
    const double *r2
    double wt                        # and how far `temp` is from them to the next ones, 0 to 1
    bint known
    double i, moved, j
    double sd_e, sd_sample
    double f[N]                      # the diagonal of F
    double q[N]                      # what of Q is the same for all
    double flip                      # how far h is pulled by the current


cdef class Kernel:
    """A cell model's tables, laid out for `step`."""

    cdef const double[:, ::1] ocv, gap, r0, r1, r2
    cdef const double[::1] tau1, tau2, knee, model_sd, sample_sd
    cdef double t_first, t_step, s_step
    cdef Py_ssize_t n_temp, n_soc
    cdef double volt_low, volt_high, rate, gain_sd
    cdef double model_tau, axis_sd, k_sd, k_tau, branch_sd, h_sd, offset_c

    def __init__(self, model):
        u = model.uncertainty
        self.ocv, self.gap = model.ocv_v, model.hysteresis_v
        self.r0, self.r1, self.r2 = model.r0_ohm, model.r1_ohm, model.r2_ohm
        self.tau1, self.tau2, self.knee = model.tau1_s, model.tau2_s, model.knee_a
        self.model_sd, self.sample_sd = model.model_sd_v, model.sample_sd_v
        self.n_temp, self.n_soc = len(model.temp_degc), len(model.soc)
        self.t_first = model.temp_degc[0]
        self.t_step = model.temp_degc[1] - model.temp_degc[0]
        self.s_step = model.soc[1] - model.soc[0]
        # beyond these a voltage is a broken sensor, not a cell
        self.volt_low, self.volt_high = 0.5 * model.voltage_min_v, 1.2 * model.voltage_max_v
        self.rate, self.gain_sd = model.hysteresis_rate, model.capacity_rel_sd
        self.model_tau, self.axis_sd = u.model_tau_s, u.axis_sd
        self.k_sd, self.k_tau = u.resistance_rel_sd, u.resistance_tau_s
        self.branch_sd, self.h_sd, self.offset_c = u.branch_rel_sd, u.hysteresis_sd, u.current_offset_c

    def step(
        self,
        double dt_s,
        double[:, ::1] x,
        double[:, :, ::1] p,
        const long long[::1] cell,
        const double[::1] capacity_ah,
        const double[::1] current_a,
        double[::1] last_current_a,
        const double[::1] voltage_v,
        const double[::1] temp_degc,
        double[::1] waited_s,
        double[::1] surprise_s,
        double[::1] score,
    ):
        """Predict r filters of n cells by `dt_s`, then correct those whose cell has a voltage.

        Parameters
        ----------
        dt_s : at least 0
        x : [r, 7] states; p : [r, 7, 7] covariances; both changed in place
        cell : [r] of each filter, 0 to n-1
        capacity_ah : [n]
        current_a : [n] of one cell, positive = discharge; NaN = unknown
        last_current_a : [r] current at the previous step (changed)
        voltage_v : [n]; NaN = no new sample
        temp_degc : [n]; finite
        waited_s : [r] time since the last sample (changed)
        surprise_s : [r] for how long samples have been out of bounds (changed)
        score : [r] ln of the likelihood of all samples so far (changed)
        """
        cdef Py_ssize_t r
        cdef long long c, before = -1
        cdef Shared s
        cdef double jump
        cdef bint sampled = False
        with nogil:
            for r in range(x.shape[0]):
                c = cell[r]
                if c != before:
                    # always so where the current is NaN
                    if (
                        before < 0 or capacity_ah[c] != s.capacity or temp_degc[c] != s.temp
                        or current_a[c] != s.current
                    ):
                        self._prepare(&s, dt_s, capacity_ah[c], current_a[c], temp_degc[c])
                    sampled = voltage_v[c] >= self.volt_low and voltage_v[c] <= self.volt_high  # NaN: no
                    before = c
                jump = s.i - last_current_a[r]
                last_current_a[r] = s.i
                self._predict(&s, dt_s, &x[r, 0], &p[r, 0, 0])
                waited_s[r] += dt_s
                if sampled:
                    self._correct(
                        &s, &x[r, 0], &p[r, 0, 0], jump, voltage_v[c], waited_s[r], &surprise_s[r], &score[r]
                    )
                    waited_s[r] = 0.0

    cdef inline double _look(self, const double* row, double wt, double soc) noexcept nogil:
        """A table's value, bilinear, held at the edges; `row` is the one below the temperature."""
        cdef double place = least(most(soc / self.s_step, 0.0), <double>(self.n_soc - 1))
        cdef Py_ssize_t s = min(<Py_ssize_t>place, self.n_soc - 2)
        cdef double ws = place - s
        cdef double low = row[s] * (1.0 - ws) + row[s + 1] * ws
        cdef double high = row[self.n_soc + s] * (1.0 - ws) + row[self.n_soc + s + 1] * ws
        return low * (1.0 - wt) + high * wt

    cdef void _prepare(
        self, Shared* s, double dt, double capacity, double current, double temp
    ) noexcept nogil:
        """What all filters with this capacity, current and temperature share: the costly functions."""
        cdef double place = least(most((temp - self.t_first) / self.t_step, 0.0), <double>(self.n_temp - 1))
        cdef Py_ssize_t t = min(<Py_ssize_t>place, self.n_temp - 2)
        cdef double wt = place - t
        cdef double knee = self.knee[t] * (1.0 - wt) + self.knee[t + 1] * wt
        s.capacity, s.current, s.temp = capacity, current, temp
        s.ocv, s.gap, s.r0, s.r1, s.r2 = (
            &self.ocv[t, 0], &self.gap[t, 0], &self.r0[t, 0], &self.r1[t, 0], &self.r2[t, 0]
        )
        s.wt = wt
        s.known = isfinite(current)
        s.i = current if s.known else 0.0
        s.moved = s.i * dt / (3600.0 * capacity)
        s.f[1] = exp(-dt / (self.tau1[t] * (1.0 - wt) + self.tau1[t + 1] * wt))
        s.f[2] = exp(-dt / (self.tau2[t] * (1.0 - wt) + self.tau2[t + 1] * wt))
        s.f[3] = exp(-self.rate * fabs(s.moved))
        s.j = knee * asinh(s.i / knee)
        s.sd_e = self.model_sd[t] * (1.0 - wt) + self.model_sd[t + 1] * wt
        s.sd_sample = self.sample_sd[t] * (1.0 - wt) + self.sample_sd[t + 1] * wt
        s.flip = (1.0 - s.f[3]) * ((1.0 if s.i > 0.0 else 0.0) - (1.0 if s.i < 0.0 else 0.0))
        s.f[0] = 1.0
        s.f[4], s.f[5], s.f[6] = exp(-dt / self.model_tau), exp(-dt / self.k_tau), exp(-dt / OFFSET_TAU_S)
        s.q[0] = fabs(s.moved) * SWING * self.gain_sd * self.gain_sd
        if not s.known:
            s.q[0] += (UNKNOWN_C / 3600.0) ** 2 * 2.0 * UNKNOWN_TAU_S * dt
        s.q[1], s.q[2] = 1.0 - s.f[1] * s.f[1], 1.0 - s.f[2] * s.f[2]  # times what depends on soc
        s.q[3] = (1.0 - s.f[3] * s.f[3]) * self.h_sd * self.h_sd
        s.q[4] = 1.0 - s.f[4] * s.f[4]
        s.q[5] = (1.0 - s.f[5] * s.f[5]) * self.k_sd * self.k_sd
        s.q[6] = (1.0 - s.f[6] * s.f[6]) * self.offset_c * self.offset_c

    cdef void _predict(self, const Shared* s, double dt, double* x, double* p) noexcept nogil:
        cdef double soc = x[0]
        cdef double r1 = self._look(s.r1, s.wt, soc)
        cdef double r2 = self._look(s.r2, s.wt, soc)
        cdef double f[N]  # a copy: what p points to can't change it, so it may stay in registers
        cdef double g0 = -dt / 3600.0
        cdef double g1 = (1.0 - s.f[1]) * r1 * s.j
        cdef double g2 = (1.0 - s.f[2]) * r2 * s.j
        cdef double unknown = 0.0 if s.known else UNKNOWN_C * s.capacity
        cdef double slope
        cdef double m[3][N]
        cdef Py_ssize_t a, b

        for a in range(N):
            f[a] = s.f[a]
        x[0] = least(most(soc - s.moved - x[6] * dt / 3600.0, 0.0), 1.0)
        x[1] = f[1] * x[1] + x[5] * g1
        x[2] = f[2] * x[2] + x[5] * g2
        x[3] = f[3] * x[3] - s.flip
        x[4] = f[4] * x[4]
        x[5] = 1.0 + f[5] * (x[5] - 1.0)
        x[6] = f[6] * x[6]

        # P = F P F' + Q. F has f on its diagonal, and beside it only dsoc/db, dv1/dk and dv2/dk. P is
        # symmetric: its upper triangle is worked out and mirrored.
        for b in range(N):
            m[0][b] = p[b] + g0 * p[6 * N + b]
        for b in range(1, N):
            m[1][b] = f[1] * p[N + b] + g1 * p[5 * N + b]
        for b in range(2, N):
            m[2][b] = f[2] * p[2 * N + b] + g2 * p[5 * N + b]
        for b in range(N):
            p[b] = m[0][b] * f[b]
        for b in range(1, N):
            p[N + b] = m[1][b] * f[b]
        for b in range(2, N):
            p[2 * N + b] = m[2][b] * f[b]
        for a in range(3, N):
            for b in range(a, N):
                p[a * N + b] = f[a] * p[a * N + b] * f[b]
        p[0] += m[0][6] * g0
        p[1] += m[0][5] * g1
        p[2] += m[0][5] * g2
        p[N + 1] += m[1][5] * g1
        p[N + 2] += m[1][5] * g2
        p[2 * N + 2] += m[2][5] * g2
        for a in range(1, N):
            for b in range(a):
                p[a * N + b] = p[b * N + a]

        slope = self._slope(s, x[0], SECANT_MIN)
        p[0] += s.q[0]
        p[8] += s.q[1] * ((self.branch_sd * x[5] * r1 * s.j) ** 2 + (r1 * unknown) ** 2)
        p[16] += s.q[2] * ((self.branch_sd * x[5] * r2 * s.j) ** 2 + (r2 * unknown) ** 2)
        p[24] += s.q[3]
        p[32] += s.q[4] * (s.sd_e * s.sd_e + (self.axis_sd * slope) ** 2)
        p[40] += s.q[5]
        p[48] += s.q[6]

    cdef inline double _slope(self, const Shared* s, double soc, double half) noexcept nogil:
        cdef double low = least(most(soc - half, 0.0), 1.0 - SECANT_MIN)
        cdef double high = most(least(soc + half, 1.0), SECANT_MIN)
        return (self._look(s.ocv, s.wt, high) - self._look(s.ocv, s.wt, low)) / (high - low)

    cdef void _correct(
        self, const Shared* s, double* x, double* p, double jump, double voltage, double waited,
        double* surprise, double* score,
    ) noexcept nogil:
        cdef double soc = x[0]
        cdef double i = s.i
        cdef double r0 = self._look(s.r0, s.wt, soc)
        cdef double gap = self._look(s.gap, s.wt, soc)
        cdef double half = least(most(SQRT3 * sqrt(most(p[0], 0.0)), SECANT_MIN), SECANT_MAX)
        cdef double ocv = self._look(s.ocv, s.wt, soc)
        cdef double low = least(most(soc - half, 0.0), 1.0 - SECANT_MIN)
        cdef double high = most(least(soc + half, 1.0), SECANT_MIN)
        cdef double ocv_low = self._look(s.ocv, s.wt, low)
        cdef double ocv_high = self._look(s.ocv, s.wt, high)
        cdef double slope = (ocv_high - ocv_low) / (high - low)
        cdef double miss_low = ocv_low - ocv - slope * (low - soc)
        cdef double miss_high = ocv_high - ocv - slope * (high - soc)
        cdef double r = s.sd_sample * s.sd_sample + (self.branch_sd * r0 * i) ** 2
        cdef double h[N]
        cdef double ph[N]
        cdef double gain[N]
        cdef double aph[N]
        cdef double m[N][N]
        cdef double nu, var, size
        cdef Py_ssize_t a, b

        r *= most(SAMPLE_S / most(waited, 1e-3), 1.0)
        r += (miss_low * miss_low + miss_high * miss_high) / 6.0 + (r0 * jump) ** 2
        if not s.known:
            r += (r0 * UNKNOWN_C * s.capacity) ** 2
        h[0], h[1], h[2], h[3], h[4], h[5], h[6] = slope, -1.0, -1.0, gap, 1.0, -r0 * i, 0.0
        nu = voltage - (ocv - x[1] - x[2] + gap * x[3] + x[4] - x[5] * r0 * i)
        var = r
        for a in range(N):
            ph[a] = 0.0
            for b in range(N):
                ph[a] += p[a * N + b] * h[b]
            var += h[a] * ph[a]
        if not isfinite(nu) or not isfinite(var) or var <= 0.0:
            return
        size = fabs(nu) / sqrt(var)
        if size > GATE:
            surprise[0] += waited
            r += (size / GATE - 1.0) * var
            var *= size / GATE
        else:
            surprise[0] = most(surprise[0] - 2.0 * waited, 0.0)
        score[0] -= 0.5 * (nu * nu / var + least(waited / SAMPLE_S, 1.0) * log(var))
        for a in range(N):
            gain[a] = ph[a] / var
            x[a] += gain[a] * nu
        # Joseph: (I - K H) P (I - K H)' + K R K'
        for a in range(N):
            for b in range(N):
                m[a][b] = p[a * N + b] - gain[a] * ph[b]
        for a in range(N):
            aph[a] = 0.0
            for b in range(N):
                aph[a] += m[a][b] * h[b]
        for a in range(N):
            for b in range(a, N):
                size = m[a][b] - aph[a] * gain[b] + gain[a] * r * gain[b]
                if a != b:
                    size = 0.5 * (size + m[b][a] - aph[b] * gain[a] + gain[b] * r * gain[a])
                p[a * N + b] = size
                p[b * N + a] = size
        # No soc beyond 0 and 1: what it may not explain, the other states do (projection on the bound)
        size = least(most(x[0], 0.0), 1.0) - x[0]
        if size != 0.0 and p[0] > 0.0:
            for a in range(1, N):
                x[a] += p[a * N] / p[0] * size
        x[0] += size
        x[3] = least(most(x[3], -1.0), 1.0)
        x[5] = least(most(x[5], K_MIN), K_MAX)
