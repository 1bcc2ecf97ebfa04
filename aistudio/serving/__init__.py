"""The search page and its JSON API: a plain ASGI app over searchers of stored runs, without Ray.

engine.py (one run's model: searcher, encoder, pictures), questions.py (what a request asks), pictures.py (what
visitors send, decoded in a process of its own), api.py and pages.py (routes), guard.py (who may come in, how many and
how much), app.py (all of it together).
"""
