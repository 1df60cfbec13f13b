"""What is wrong with a request, in the product's words instead of the decoder's.

Each sentence begins with the field, written as a path from the body's root: `ports[0].internal_port`.
"""

import re
from typing import Any

from litestar.exceptions import ValidationException

_EXPECTED = re.compile(r"^Expected `(?P<wanted>[^`]+)`(?P<limit>[^,]*)(?:, got `(?P<got>[^`]+)`)?$")
_MISSING_FIELD = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")
_UNKNOWN_WORD = re.compile(r"^Invalid enum value (?P<word>.+)$")
_MISSING_PARAMETER = re.compile(r"Missing required (?P<place>\w+) parameter '(?P<name>[^']+)'")
_WHERE = re.compile(r" - at `\$\.?(?P<path>.*)`$")

_NOUNS = {
    "int": "a whole number",
    "float": "a decimal number",
    "str": "text",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_WHOLE_BODY = "the body"


def sentence(field: str, message: str) -> str:
    """One complaint about one field ("" is the body as a whole)."""
    if missing := _MISSING_FIELD.match(message):
        return f"{'.'.join(filter(None, (field, missing['field'])))}: it is required"
    where = field or _WHOLE_BODY
    if unknown := _UNKNOWN_WORD.match(message):
        return f"{where}: {unknown['word']} is none of the published values"
    if expected := _EXPECTED.match(message):
        wanted = " or ".join(_NOUNS.get(t, t) for t in expected["wanted"].split(" | "))
        got = expected["got"]
        but = f", not {_NOUNS.get(got, got)}" if got else ""
        return f"{where}: {wanted}{expected['limit']} is expected{but}"
    return f"{where}: {message.replace('`', '')}"


def of_decoder(message: str) -> str:
    """The complaint of the JSON decoder, which carries the path at its end."""
    at = _WHERE.search(message)
    return sentence(at["path"] if at else "", _WHERE.sub("", message))


def of_request(error: ValidationException) -> str:
    """The first complaint of the framework about a body or a parameter."""
    complaints = error.extra if isinstance(error.extra, list) else []
    if complaints and isinstance(complaints[0], dict):
        return _of_field(complaints[0])
    if missing := _MISSING_PARAMETER.search(error.detail):
        return f"{missing['name']}: it is required in the {missing['place']}"
    return "the request is not valid"


def _of_field(complaint: dict[str, Any]) -> str:
    field = str(complaint.get("key") or "").removeprefix("of_")
    message = str(complaint.get("message") or "not valid")
    if field == "data":
        field = ""
        if message == "'data'":
            return f"{_WHOLE_BODY}: it is empty; a JSON object is expected"
    return sentence(field, message)
