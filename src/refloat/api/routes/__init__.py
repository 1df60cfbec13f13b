"""All routes, grouped by noun."""

from refloat.api.routes.clones import ROUTES as CLONES
from refloat.api.routes.custom_domains import ROUTES as CUSTOM_DOMAINS
from refloat.api.routes.databases import ROUTES as DATABASES
from refloat.api.routes.deployments import ROUTES as DEPLOYMENTS
from refloat.api.routes.environments import ROUTES as ENVIRONMENTS
from refloat.api.routes.garbage import ROUTES as GARBAGE
from refloat.api.routes.insight import ROUTES as INSIGHT
from refloat.api.routes.organizations import ROUTES as ORGANIZATIONS
from refloat.api.routes.output import ROUTES as OUTPUT
from refloat.api.routes.queue import ROUTES as QUEUE
from refloat.api.routes.refloat import ROUTES as REFLOAT
from refloat.api.routes.registries import ROUTES as REGISTRIES
from refloat.api.routes.service_actions import ROUTES as SERVICE_ACTIONS
from refloat.api.routes.services import ROUTES as SERVICES
from refloat.api.routes.tokens import ROUTES as TOKENS
from refloat.api.routes.variables import ROUTES as VARIABLES

ROUTES = (
    *ORGANIZATIONS,
    *REGISTRIES,
    *ENVIRONMENTS,
    *CLONES,
    *SERVICES,
    *CUSTOM_DOMAINS,
    *DATABASES,
    *VARIABLES,
    *TOKENS,
    *DEPLOYMENTS,
    *QUEUE,
    *SERVICE_ACTIONS,
    *OUTPUT,
    *REFLOAT,
    *INSIGHT,
    *GARBAGE,
)
