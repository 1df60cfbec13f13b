"""All routes, grouped by noun."""

from refloat.api.routes import (
    applications,
    deployments,
    environments,
    organizations,
    refloat,
    tokens,
    variables,
)

ROUTES = (
    *organizations.ROUTES,
    *environments.ROUTES,
    *applications.ROUTES,
    *variables.ROUTES,
    *tokens.ROUTES,
    *deployments.ROUTES,
    *refloat.ROUTES,
)
