"""Plans: what will be done to an environment, decided before anything is touched; pure."""
