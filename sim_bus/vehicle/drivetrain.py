"""Two motors with inverters and a reducer on the rear axle, taken together.

Losses at torque T (Nm) and speed w (rad/s), in W, the form of Larminie and Lowry, Electric Vehicle Technology
Explained (2012), chapter 7, with the inverter's (Roshandel et al., Energies 14, 2021: what makes up an efficiency map):

    loss = IDLE + IRON w + WINDAGE w^3 + SWITCHING |T| + COPPER (1 + 0.0039 (T_motor - 80)) T^2

and the reducer passes REDUCER of the power in either direction. Size: an electric portal axle for low-floor buses, 120 kW
continuous and 240 kW for short (ZF's, Materials for Engineering, 2008); its coefficients are ours, for asynchronous motors
of that class: 96 % at best for motors and inverters.
"""

from __future__ import annotations

import math

WHEEL_RADIUS_M = 0.478
GEAR = 22.63
REDUCER = 0.96  # two stages and the differential
TORQUE_NM = 970.0
POWER_W = 240_000.0  # at the shaft
REGEN_NM = 420.0  # 1.2 m/s2 of a bus half full: what the rear axle may brake with alone
REGEN_W = 160_000.0  # at the shaft
FADE_MS = (0.8, 2.5)  # regenerative braking ends between these speeds
IDLE_W = 300.0
IRON = 5.0  # W s
WINDAGE = 3.0e-6  # W s^3
SWITCHING = 5.0  # W/Nm
COPPER = 0.016  # W/Nm^2 at 80 degC
COPPER_PER_K = 0.0039

MOTOR_J_PER_K = 2 * 60_000.0
INVERTER_J_PER_K = 15_000.0
COOLANT_J_PER_K = 60_000.0
MOTOR_W_PER_K = 260.0  # to the coolant
INVERTER_W_PER_K = 350.0
RADIATOR_W_PER_K = (25.0, 900.0)  # thermostat shut and open
THERMOSTAT_DEGC = (40.0, 60.0)
HOT_DEGC = (140.0, 165.0)  # the motor's power is cut between


def loss_w(torque_nm: float, rad_s: float, motor_degc: float = 80.0) -> float:
    """Of motors and inverters, W."""
    copper = COPPER * (1 + COPPER_PER_K * (motor_degc - 80))
    torque = abs(torque_nm)
    return IDLE_W + IRON * rad_s + WINDAGE * rad_s**3 + SWITCHING * torque + copper * torque * torque


def efficiency(torque_nm: float, rad_s: float, motor_degc: float = 80.0) -> float:
    """Of the whole: shaft torque positive, battery to wheels; negative, wheels to battery (0 where nothing comes back)."""
    shaft, lost = abs(torque_nm) * rad_s, loss_w(torque_nm, rad_s, motor_degc)
    if torque_nm >= 0:
        return shaft * REDUCER / (shaft + lost)
    return max((shaft - lost) / shaft * REDUCER, 0.0)


class Drivetrain:
    """Forces at the wheels in N, speeds in m/s, power at the inverters' DC side in W."""

    def __init__(self, ambient_degc: float) -> None:
        self.motor_degc = self.inverter_degc = self.coolant_degc = ambient_degc
        self.torque_nm = 0.0
        self.force_n = 0.0  # of the motors, at the wheels
        self._copper = COPPER
        self._cut = 1.0  # of torque and power, motors hot
        self._motor_j = self._inverter_j = 0.0
        self.second(0.0, ambient_degc)

    def most_n(self, speed_ms: float, power_w: float) -> float:
        """The most that drives at this speed with this electrical power."""
        rad_s = speed_ms * (GEAR / WHEEL_RADIUS_M)
        spare = power_w - IDLE_W - IRON * rad_s - WINDAGE * rad_s * rad_s * rad_s
        if spare <= 0.0:
            return 0.0
        linear = rad_s + SWITCHING
        torque = (math.sqrt(linear * linear + 4 * self._copper * spare) - linear) / (2 * self._copper)
        most = TORQUE_NM * self._cut
        if most * rad_s > POWER_W * self._cut:
            most = POWER_W * self._cut / rad_s
        return (most if most < torque else torque) * (GEAR * REDUCER / WHEEL_RADIUS_M)

    def drive(self, force_n: float, speed_ms: float, dt_s: float) -> float:
        """Drive with a force: the power that it draws."""
        rad_s = speed_ms * (GEAR / WHEEL_RADIUS_M)
        torque = force_n * (WHEEL_RADIUS_M / (GEAR * REDUCER))
        self.torque_nm, self.force_n = torque, force_n
        return torque * rad_s + self._lose(torque, rad_s, dt_s)

    def brake(self, force_n: float, speed_ms: float, most_back_w: float, dt_s: float) -> float:
        """Brake with up to a force: the power drawn (negative: given back, at most most_back_w)."""
        rad_s = speed_ms * (GEAR / WHEEL_RADIUS_M)
        torque = force_n * (WHEEL_RADIUS_M * REDUCER / GEAR)
        most = REGEN_NM * self._cut
        if most * rad_s > REGEN_W * self._cut:
            most = REGEN_W * self._cut / rad_s
        fade = (speed_ms - FADE_MS[0]) / (FADE_MS[1] - FADE_MS[0])
        most *= 0.0 if fade < 0.0 else 1.0 if fade > 1.0 else fade
        torque = torque if torque < most else most
        # what comes back is (w - SWITCHING) T - COPPER T^2 - the rest: up to most_back_w
        linear = rad_s - SWITCHING
        rest = IDLE_W + IRON * rad_s + WINDAGE * rad_s * rad_s * rad_s
        under = linear * linear - 4 * self._copper * (rest + most_back_w)
        if torque > 0.0 and under > 0.0:
            allowed = (linear - math.sqrt(under)) / (2 * self._copper)
            torque = torque if torque < allowed else allowed
        if torque * linear - self._copper * torque * torque <= 0.0:
            torque = 0.0  # braking so would cost power
        self.torque_nm, self.force_n = -torque, -torque * (GEAR / (WHEEL_RADIUS_M * REDUCER))
        return self._lose(torque, rad_s, dt_s) - torque * rad_s

    def off(self) -> float:
        """No power: the motors turn along."""
        self.torque_nm = self.force_n = 0.0
        return 0.0

    def second(self, dt_s: float, ambient_degc: float) -> None:
        """Temperatures by the losses since the last call."""
        to_motor = MOTOR_W_PER_K * (self.motor_degc - self.coolant_degc) * dt_s
        to_inverter = INVERTER_W_PER_K * (self.inverter_degc - self.coolant_degc) * dt_s
        span = (self.coolant_degc - THERMOSTAT_DEGC[0]) / (THERMOSTAT_DEGC[1] - THERMOSTAT_DEGC[0])
        radiator = RADIATOR_W_PER_K[0] + min(max(span, 0.0), 1.0) * (
            RADIATOR_W_PER_K[1] - RADIATOR_W_PER_K[0]
        )
        out = radiator * (self.coolant_degc - ambient_degc) * dt_s
        self.motor_degc += (self._motor_j - to_motor) / MOTOR_J_PER_K
        self.inverter_degc += (self._inverter_j - to_inverter) / INVERTER_J_PER_K
        self.coolant_degc += (to_motor + to_inverter - out) / COOLANT_J_PER_K
        self._motor_j = self._inverter_j = 0.0
        self._copper = COPPER * (1 + COPPER_PER_K * (self.motor_degc - 80))
        self._cut = min(max((HOT_DEGC[1] - self.motor_degc) / (HOT_DEGC[1] - HOT_DEGC[0]), 0.0), 1.0)

    def _lose(self, torque: float, rad_s: float, dt_s: float) -> float:
        """The loss, W, and its heat."""
        inverter = IDLE_W + SWITCHING * torque
        motor = (IRON + WINDAGE * rad_s * rad_s) * rad_s + self._copper * torque * torque
        self._inverter_j += inverter * dt_s
        self._motor_j += motor * dt_s
        return inverter + motor
