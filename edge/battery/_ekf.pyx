# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The extended Kalman filter of every cell. Its mathematics stand in edge/battery/estimator.py."""

from libc.math cimport exp, fabs, isfinite

cdef enum:
    SOC
    V1
    V2
    HYSTERESIS
    STATES

cdef enum:  # fields of a table's entry
    OCV
    HALF_GAP
    R0
    R1
    R2
    FIELDS


def step(
    double dt_s,
    const double[::1] current_a,
    const double[::1] voltage_v,
    const double[::1] temp_degc,
    const double[::1] knots_degc,
    const double[:, :, ::1] table,
    double[:, ::1] state,
    double[:, :, ::1] covariance,
    double[::1] predicted_v,
    double capacity_ah,
    double tau1_s,
    double tau2_s,
    double hysteresis_rate,
    double measurement_var_s,
    double soc_var_per_s,
    double relax_var_per_s,
    double resistance_error,
    double unknown_current_a,
):
    """One step of n cells, in place; shapes as in `PackEstimator`. NaN marks what is not known."""
    cdef Py_ssize_t n, i, j, t, cells = state.shape[0], points = table.shape[1]
    cdef double current, weight, a1, a2, decay, target, moved, noise
    cdef double innovation, s, variance
    cdef double[FIELDS] e
    cdef double[FIELDS] d
    cdef double[STATES] f
    cdef double[STATES] h
    cdef double[STATES] ph
    cdef double[STATES] gain
    cdef bint known
    a1 = exp(-dt_s / tau1_s)
    a2 = exp(-dt_s / tau2_s)
    with nogil:
        for n in range(cells):
            known = isfinite(current_a[n])
            current = current_a[n] if known else 0.0
            # Tables at this cell's temperature and state of charge
            t = 0
            while t < knots_degc.shape[0] - 2 and temp_degc[n] > knots_degc[t + 1]:
                t += 1
            weight = (temp_degc[n] - knots_degc[t]) / (knots_degc[t + 1] - knots_degc[t])
            weight = min(max(weight, 0.0), 1.0)
            look_up(table, t, weight, state[n, SOC], points, e, d)
            # Predict
            moved = current * dt_s / (3600.0 * capacity_ah)
            decay = exp(-hysteresis_rate * fabs(moved))
            target = -1.0 if current > 0 else 1.0
            state[n, SOC] -= moved
            state[n, V1] = a1 * state[n, V1] + (1 - a1) * e[R1] * current
            state[n, V2] = a2 * state[n, V2] + (1 - a2) * e[R2] * current
            state[n, HYSTERESIS] = decay * state[n, HYSTERESIS] + (1 - decay) * target
            f[SOC] = 1.0
            f[V1] = a1
            f[V2] = a2
            f[HYSTERESIS] = decay
            for i in range(STATES):
                for j in range(STATES):
                    covariance[n, i, j] *= f[i] * f[j]
            noise = 0.0 if known else unknown_current_a * dt_s / (3600.0 * capacity_ah)
            covariance[n, SOC, SOC] += soc_var_per_s * dt_s + noise * noise
            covariance[n, V1, V1] += relax_var_per_s * dt_s
            covariance[n, V2, V2] += relax_var_per_s * dt_s
            covariance[n, HYSTERESIS, HYSTERESIS] += (1 - decay * decay) * 0.1
            # Correct
            look_up(table, t, weight, state[n, SOC], points, e, d)
            predicted_v[n] = (
                e[OCV] + e[HALF_GAP] * state[n, HYSTERESIS] - e[R0] * current - state[n, V1] - state[n, V2]
            )
            if not known or not isfinite(voltage_v[n]) or voltage_v[n] < 0.5 or voltage_v[n] > 6.0 or dt_s <= 0:
                continue
            h[SOC] = d[OCV]
            h[V1] = -1.0
            h[V2] = -1.0
            h[HYSTERESIS] = e[HALF_GAP]
            noise = resistance_error * (e[R0] + e[R1]) * current
            # Model errors last: one step brings only its share of a `measurement_var_s` second's knowledge.
            variance = (measurement_var_s + noise * noise * 60.0) / min(dt_s, 60.0)
            s = variance
            for i in range(STATES):
                ph[i] = 0.0
                for j in range(STATES):
                    ph[i] += covariance[n, i, j] * h[j]
            for i in range(STATES):
                s += h[i] * ph[i]
            innovation = voltage_v[n] - predicted_v[n]
            for i in range(STATES):
                gain[i] = ph[i] / s
                state[n, i] += gain[i] * innovation
            state[n, SOC] = min(max(state[n, SOC], -0.02), 1.02)
            state[n, HYSTERESIS] = min(max(state[n, HYSTERESIS], -1.0), 1.0)
            joseph(covariance, n, gain, h, variance)


cdef inline void look_up(
    const double[:, :, ::1] table, Py_ssize_t t, double weight, double soc, Py_ssize_t points, double* e, double* d
) noexcept nogil:
    """Every field, and its slope over SoC, between two temperatures and two points; linear beyond the ends."""
    cdef double at = soc * (points - 1), low, high
    cdef Py_ssize_t k = <Py_ssize_t> min(max(at, 0.0), points - 2.0), i
    at -= k
    for i in range(FIELDS):
        low = table[t, k, i] + weight * (table[t + 1, k, i] - table[t, k, i])
        high = table[t, k + 1, i] + weight * (table[t + 1, k + 1, i] - table[t, k + 1, i])
        d[i] = (high - low) * (points - 1)
        # Only the OCV goes on beyond 0 and 1; a resistance must not fall through zero there.
        e[i] = low + (at if i == OCV else min(max(at, 0.0), 1.0)) * (high - low)


cdef inline void joseph(
    double[:, :, ::1] p, Py_ssize_t n, const double* gain, const double* h, double variance
) noexcept nogil:
    """P = (I - K H) P (I - K H)' + K R K': stays symmetric and positive whatever the rounding."""
    cdef double[STATES][STATES] a
    cdef double[STATES][STATES] b
    cdef Py_ssize_t i, j, k
    for i in range(STATES):
        for j in range(STATES):
            b[i][j] = (1.0 if i == j else 0.0) - gain[i] * h[j]
    for i in range(STATES):
        for j in range(STATES):
            a[i][j] = 0.0
            for k in range(STATES):
                a[i][j] += b[i][k] * p[n, k, j]
    for i in range(STATES):
        for j in range(i + 1):
            p[n, i, j] = gain[i] * gain[j] * variance
            for k in range(STATES):
                p[n, i, j] += a[i][k] * b[j][k]
            p[n, j, i] = p[n, i, j]
