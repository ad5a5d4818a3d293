"""Cell models from measurements: `ayaz fit-cell`. docs/battery/fitting.md says what is done and why."""
