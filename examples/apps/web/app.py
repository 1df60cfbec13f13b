"""The page people see."""

import os

from flask import Flask

app = Flask(__name__)


@app.get("/")
def page():
    return f"<h1>{os.environ.get('GREETING', '')}</h1>"
