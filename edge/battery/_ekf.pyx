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

from libc.math cimport asinh, exp, fabs, fmax, fmin, isfinite, log, sqrt

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
        const double[::1] capacity_ah,
        const double[::1] current_a,
        double[::1] last_current_a,
        const double[::1] voltage_v,
        const double[::1] temp_degc,
        double[::1] waited_s,
        double[::1] surprise_s,
        double[::1] score,
    ):
        """Predict every cell by `dt_s`, then correct with the voltages that are not NaN.

        Parameters
        ----------
        dt_s : at least 0
        x : [n, 7] states; p : [n, 7, 7] covariances; both changed in place
        capacity_ah : [n]
        current_a : [n] of one cell, positive = discharge; NaN = unknown
        last_current_a : [n] current at the previous step (changed)
        voltage_v : [n]; NaN = no new sample
        temp_degc : [n]; finite
        waited_s : [n] time since the last sample (changed)
        surprise_s : [n] for how long samples have been out of bounds (changed)
        score : [n] ln of the likelihood of all samples so far (changed)
        """
        cdef Py_ssize_t c
        with nogil:
            for c in range(x.shape[0]):
                self._cell(
                    dt_s, &x[c, 0], &p[c, 0, 0], capacity_ah[c], current_a[c], &last_current_a[c],
                    voltage_v[c], temp_degc[c], &waited_s[c], &surprise_s[c], &score[c],
                )

    cdef inline double _look(
        self, const double[:, ::1] table, Py_ssize_t t, double wt, double soc
    ) noexcept nogil:
        cdef double place = fmin(fmax(soc / self.s_step, 0.0), <double>(self.n_soc - 1))
        cdef Py_ssize_t s = min(<Py_ssize_t>place, self.n_soc - 2)
        cdef double ws = place - s
        cdef double low = table[t, s] * (1.0 - ws) + table[t, s + 1] * ws
        cdef double high = table[t + 1, s] * (1.0 - ws) + table[t + 1, s + 1] * ws
        return low * (1.0 - wt) + high * wt

    cdef void _cell(
        self, double dt, double* x, double* p, double capacity, double current, double* last_current,
        double voltage, double temp, double* waited, double* surprise, double* score,
    ) noexcept nogil:
        cdef double place = fmin(fmax((temp - self.t_first) / self.t_step, 0.0), <double>(self.n_temp - 1))
        cdef Py_ssize_t t = min(<Py_ssize_t>place, self.n_temp - 2)
        cdef double wt = place - t
        cdef bint known = isfinite(current)
        cdef double i = current if known else 0.0
        cdef double jump = i - last_current[0]
        last_current[0] = i
        self._predict(dt, x, p, capacity, i, known, t, wt)
        waited[0] += dt
        if not isfinite(voltage) or voltage < self.volt_low or voltage > self.volt_high:
            return
        self._correct(x, p, capacity, i, jump, known, t, wt, voltage, waited[0], surprise, score)
        waited[0] = 0.0

    cdef void _predict(
        self, double dt, double* x, double* p, double capacity, double i, bint known, Py_ssize_t t, double wt
    ) noexcept nogil:
        cdef double soc = x[0]
        cdef double r1 = self._look(self.r1, t, wt, soc)
        cdef double r2 = self._look(self.r2, t, wt, soc)
        cdef double moved = i * dt / (3600.0 * capacity)
        cdef double a1 = exp(-dt / (self.tau1[t] * (1.0 - wt) + self.tau1[t + 1] * wt))
        cdef double a2 = exp(-dt / (self.tau2[t] * (1.0 - wt) + self.tau2[t + 1] * wt))
        cdef double ah = exp(-self.rate * fabs(moved))
        cdef double ae = exp(-dt / self.model_tau)
        cdef double ak = exp(-dt / self.k_tau)
        cdef double ab = exp(-dt / OFFSET_TAU_S)
        cdef double knee = self.knee[t] * (1.0 - wt) + self.knee[t + 1] * wt
        cdef double j = knee * asinh(i / knee)
        cdef double g1 = (1.0 - a1) * r1 * j
        cdef double g2 = (1.0 - a2) * r2 * j
        cdef double unknown = 0.0 if known else UNKNOWN_C * capacity
        cdef double f[N]
        cdef double g[N]
        cdef double q[N]
        cdef double m[N][N]
        cdef double sign = (1.0 if i > 0.0 else 0.0) - (1.0 if i < 0.0 else 0.0)
        cdef Py_ssize_t source[N]
        cdef double slope, sd_e, share
        cdef Py_ssize_t a, b, k

        f[0], f[1], f[2], f[3], f[4], f[5], f[6] = 1.0, a1, a2, ah, ae, ak, ab
        g[0], g[1], g[2], g[3], g[4], g[5], g[6] = -dt / 3600.0, g1, g2, 0.0, 0.0, 0.0, 0.0
        source[0], source[1], source[2], source[3], source[4], source[5], source[6] = 6, 5, 5, 3, 4, 5, 6
        x[0] = fmin(fmax(soc - moved - x[6] * dt / 3600.0, 0.0), 1.0)
        x[1] = a1 * x[1] + x[5] * g1
        x[2] = a2 * x[2] + x[5] * g2
        x[3] = ah * x[3] - (1.0 - ah) * sign
        x[4] = ae * x[4]
        x[5] = 1.0 + ak * (x[5] - 1.0)
        x[6] = ab * x[6]

        slope = self._slope(t, wt, x[0], SECANT_MIN)
        sd_e = self.model_sd[t] * (1.0 - wt) + self.model_sd[t + 1] * wt
        q[0] = fabs(moved) * SWING * self.gain_sd * self.gain_sd
        q[1] = (1.0 - a1 * a1) * ((self.branch_sd * x[5] * r1 * j) ** 2 + (r1 * unknown) ** 2)
        q[2] = (1.0 - a2 * a2) * ((self.branch_sd * x[5] * r2 * j) ** 2 + (r2 * unknown) ** 2)
        q[3] = (1.0 - ah * ah) * self.h_sd * self.h_sd
        q[4] = (1.0 - ae * ae) * (sd_e * sd_e + (self.axis_sd * slope) ** 2)
        q[5] = (1.0 - ak * ak) * self.k_sd * self.k_sd
        q[6] = (1.0 - ab * ab) * self.offset_c * self.offset_c
        if not known:
            q[0] += (UNKNOWN_C / 3600.0) ** 2 * 2.0 * UNKNOWN_TAU_S * dt
        # P = F P F' + Q; in each row of F, f on the diagonal and g in the column `source`
        for a in range(N):
            k, share = source[a], g[a]
            for b in range(N):
                m[a][b] = f[a] * p[a * N + b] + share * p[k * N + b]
        for a in range(N):
            for b in range(N):
                p[a * N + b] = m[a][b] * f[b] + m[a][source[b]] * g[b]
            p[a * N + a] += q[a]

    cdef inline double _slope(self, Py_ssize_t t, double wt, double soc, double half) noexcept nogil:
        cdef double low = fmin(fmax(soc - half, 0.0), 1.0 - SECANT_MIN)
        cdef double high = fmax(fmin(soc + half, 1.0), SECANT_MIN)
        return (self._look(self.ocv, t, wt, high) - self._look(self.ocv, t, wt, low)) / (high - low)

    cdef void _correct(
        self, double* x, double* p, double capacity, double i, double jump, bint known, Py_ssize_t t,
        double wt, double voltage, double waited, double* surprise, double* score,
    ) noexcept nogil:
        cdef double soc = x[0]
        cdef double r0 = self._look(self.r0, t, wt, soc)
        cdef double gap = self._look(self.gap, t, wt, soc)
        cdef double half = fmin(fmax(SQRT3 * sqrt(fmax(p[0], 0.0)), SECANT_MIN), SECANT_MAX)
        cdef double ocv = self._look(self.ocv, t, wt, soc)
        cdef double slope = self._slope(t, wt, soc, half)
        cdef double low = fmin(fmax(soc - half, 0.0), 1.0 - SECANT_MIN)
        cdef double high = fmax(fmin(soc + half, 1.0), SECANT_MIN)
        cdef double miss_low = self._look(self.ocv, t, wt, low) - ocv - slope * (low - soc)
        cdef double miss_high = self._look(self.ocv, t, wt, high) - ocv - slope * (high - soc)
        cdef double sd = self.sample_sd[t] * (1.0 - wt) + self.sample_sd[t + 1] * wt
        cdef double r = sd * sd + (self.branch_sd * r0 * i) ** 2
        cdef double h[N]
        cdef double ph[N]
        cdef double gain[N]
        cdef double aph[N]
        cdef double m[N][N]
        cdef double nu, s, size
        cdef Py_ssize_t a, b

        r *= fmax(SAMPLE_S / fmax(waited, 1e-3), 1.0)
        r += (miss_low * miss_low + miss_high * miss_high) / 6.0 + (r0 * jump) ** 2
        if not known:
            r += (r0 * UNKNOWN_C * capacity) ** 2
        h[0], h[1], h[2], h[3], h[4], h[5], h[6] = slope, -1.0, -1.0, gap, 1.0, -r0 * i, 0.0
        nu = voltage - (ocv - x[1] - x[2] + gap * x[3] + x[4] - x[5] * r0 * i)
        s = r
        for a in range(N):
            ph[a] = 0.0
            for b in range(N):
                ph[a] += p[a * N + b] * h[b]
            s += h[a] * ph[a]
        if not isfinite(nu) or not isfinite(s) or s <= 0.0:
            return
        size = fabs(nu) / sqrt(s)
        if size > GATE:
            surprise[0] += waited
            r += (size / GATE - 1.0) * s
            s *= size / GATE
        else:
            surprise[0] = fmax(surprise[0] - 2.0 * waited, 0.0)
        score[0] -= 0.5 * (nu * nu / s + fmin(waited / SAMPLE_S, 1.0) * log(s))
        for a in range(N):
            gain[a] = ph[a] / s
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
        size = fmin(fmax(x[0], 0.0), 1.0) - x[0]
        if size != 0.0 and p[0] > 0.0:
            for a in range(1, N):
                x[a] += p[a * N] / p[0] * size
        x[0] += size
        x[3] = fmin(fmax(x[3], -1.0), 1.0)
        x[5] = fmin(fmax(x[5], K_MIN), K_MAX)
