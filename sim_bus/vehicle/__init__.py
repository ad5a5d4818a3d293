"""The simulated bus: the road, the driver, the drivetrain, heating, chargers."""
