"""Cell models and the state-of-charge estimator."""
