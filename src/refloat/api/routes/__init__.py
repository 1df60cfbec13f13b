"""All routes, grouped by noun."""

from refloat.api.routes.applications import ROUTES as APPLICATIONS
from refloat.api.routes.deployments import ROUTES as DEPLOYMENTS
from refloat.api.routes.environments import ROUTES as ENVIRONMENTS
from refloat.api.routes.organizations import ROUTES as ORGANIZATIONS
from refloat.api.routes.refloat import ROUTES as REFLOAT
from refloat.api.routes.tokens import ROUTES as TOKENS
from refloat.api.routes.variables import ROUTES as VARIABLES

ROUTES = (
    *ORGANIZATIONS,
    *ENVIRONMENTS,
    *APPLICATIONS,
    *VARIABLES,
    *TOKENS,
    *DEPLOYMENTS,
    *REFLOAT,
)
