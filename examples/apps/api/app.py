"""The API: refuses to start without its catalogue, which stands in an earlier stage."""

import json
import os
import urllib.request

from flask import Flask

app = Flask(__name__)

with urllib.request.urlopen(os.environ["CATALOG_URL"], timeout=10) as answer:
    ITEMS = json.load(answer)


@app.get("/")
def greeting():
    return {"greeting": os.environ.get("GREETING", ""), "items": len(ITEMS)}
