"""The data of the page on which a reader fills a basket; ``grocery_picker.js`` in the book does as `Recommender`."""

import json
from html import escape

import numpy as np

from claimbook.display.tables import Shown
from claimbook.experiments.grocery_ranking.measure.gates import MATCHES
from claimbook.papers.grocery_ranking import Recommender


def data(recommender: Recommender) -> dict:
    """All that the page needs, as plain JSON: names, identifiers, ranked weights, recipes by columns of items."""
    database = recommender.database
    return {
        "theta": recommender.reading.theta,
        "matches": MATCHES,
        "items": list(database.items),
        "categories": [
            {"name": name, "identifiers": np.flatnonzero(row).tolist()}
            for name, row in zip(database.categories, recommender.identify, strict=True)
        ],
        "subcategories": [
            {"name": name, "category": int(home), "weights": [[int(i), float(row[i])] for i in np.flatnonzero(row)]}
            for name, home, row in zip(database.subcategories, database.home, recommender.weights, strict=True)
        ],
        "recipes": [
            [recipe.title, int(sub), np.flatnonzero(row).tolist()]
            for recipe, sub, row in zip(database.recipes, database.sub, database.has, strict=True)
        ],
    }


def page(recommender: Recommender, basket: tuple[str, ...]) -> Shown:
    """The picker, filled with ``basket`` at first; without JavaScript it says where it works."""
    text = json.dumps(data(recommender), separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
    html = (
        f'<div class="grocery-picker" data-basket="{escape(";".join(basket))}">'
        "<p>The picker works on the built page of the book.</p>"
        f'<script type="application/json">{text}</script></div>'
    )
    return Shown(html, "the picker works on the built page of the book")
