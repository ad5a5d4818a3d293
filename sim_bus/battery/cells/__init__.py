"""Parameters of simulated cells: data with its sources."""
