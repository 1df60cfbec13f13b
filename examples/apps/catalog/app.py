"""The catalogue: what there is to sell."""

from flask import Flask

app = Flask(__name__)
ITEMS = {"tea": 3, "coffee": 4}


@app.get("/")
def items():
    return ITEMS
