"""The efficiency map and what follows from it."""

import numpy as np
import pytest

from sim_bus.vehicle.drivetrain import (
    GEAR,
    POWER_W,
    REDUCER,
    TORQUE_NM,
    WHEEL_RADIUS_M,
    Drivetrain,
    efficiency,
    loss_w,
)

PER_MS = GEAR / WHEEL_RADIUS_M


def test_the_map_has_the_shape_of_one():
    torque, rad_s = np.meshgrid(np.linspace(20, TORQUE_NM, 60), np.linspace(20, 1000, 60))
    reachable = torque * rad_s <= POWER_W
    of = np.vectorize(efficiency)(torque, rad_s)
    best = np.unravel_index(np.argmax(np.where(reachable, of, 0)), of.shape)
    assert 0.90 < of[best] < 0.94  # battery to wheels
    assert 150 < torque[best] < 700
    assert rad_s[best] > 200
    assert efficiency(TORQUE_NM, 20) < 0.75 < of[best]  # copper at a crawl
    assert efficiency(20, 900) < 0.75  # iron and windage at no load
    assert (of[reachable] > 0).all()


def test_losses_go_with_torque_squared_and_with_speed():
    still = loss_w(0, 0)
    assert loss_w(800, 0) - still > 3 * (loss_w(400, 0) - still) - loss_w(400, 0)
    assert loss_w(-300, 200) == loss_w(300, 200)
    assert loss_w(300, 200, motor_degc=0) < loss_w(300, 200, motor_degc=120)
    speeds = [loss_w(0, w) for w in (0, 200, 400, 800)]
    assert np.all(np.diff(speeds) > 0)


def test_braking_gives_back_less_than_it_takes():
    assert efficiency(-300, 300) < REDUCER
    assert efficiency(-5, 900) == 0  # not even what turning costs


@pytest.mark.parametrize("speed_ms", [0.0, 0.4, 3.0, 8.0, 12.5, 22.0])
@pytest.mark.parametrize("power_w", [2e3, 20e3, 100e3, 400e3])
def test_the_most_force_draws_the_power_or_meets_a_limit(speed_ms, power_w):
    drive = Drivetrain(20.0)
    force = drive.most_n(speed_ms, power_w)
    rad_s, torque = speed_ms * PER_MS, force * WHEEL_RADIUS_M / (GEAR * REDUCER)
    assert torque <= TORQUE_NM * (1 + 1e-9)
    assert torque * rad_s <= POWER_W * (1 + 1e-9)
    if force == 0:
        assert loss_w(0, rad_s, 20.0) >= power_w
        return
    drawn = drive.drive(force, speed_ms, 0.1)
    assert drawn == pytest.approx(torque * rad_s + loss_w(torque, rad_s, 20.0))
    limited = torque > TORQUE_NM * 0.999 or torque * rad_s > POWER_W * 0.999
    assert limited or drawn == pytest.approx(power_w)
    assert drawn <= power_w * (1 + 1e-9)


@pytest.mark.parametrize("speed_ms", [0.02, 0.5, 1.5, 4.0, 12.0, 20.0])
@pytest.mark.parametrize("back_w", [0.0, 5e3, 60e3, 300e3])
def test_brakes_give_back_no_more_than_is_taken(speed_ms, back_w):
    drive = Drivetrain(20.0)
    power = drive.brake(25e3, speed_ms, back_w, 0.1)
    assert power >= -back_w - 1e-6
    assert -25e3 <= drive.force_n <= 0
    assert drive.torque_nm <= 0
    rad_s = speed_ms * PER_MS
    assert power == pytest.approx(drive.torque_nm * rad_s + loss_w(drive.torque_nm, rad_s, 20.0))
    if speed_ms > 3 and back_w > 50e3:
        assert power < -40e3
    if speed_ms > 3 and back_w < 50e3:
        assert power == pytest.approx(-back_w, abs=1e-6)


def test_it_warms_by_its_losses_and_cools_again():
    drive = Drivetrain(-20.0)
    lost_j = 0.0
    for _ in range(1800):
        for _ in range(10):
            power = drive.drive(4000.0, 10.0, 0.1)
            lost_j += (power - 4000.0 * 10.0 / REDUCER) * 0.1
        drive.second(1.0, -20.0)
    assert 0 < drive.coolant_degc < drive.motor_degc < 120
    held = (
        120e3 * (drive.motor_degc + 20) + 15e3 * (drive.inverter_degc + 20) + 60e3 * (drive.coolant_degc + 20)
    )
    assert 0.2 * lost_j < held < lost_j
    for _ in range(40_000):
        drive.second(1.0, -20.0)
    assert drive.motor_degc == pytest.approx(-20, abs=2)


def test_hot_motors_pull_less():
    drive = Drivetrain(20.0)
    cold = drive.most_n(3.0, 400e3)
    drive.motor_degc = 152.5
    drive.second(0.0, 20.0)
    assert drive.most_n(3.0, 400e3) == pytest.approx(cold / 2)
