"""A catalogue that draws itself: rendered sights, their preferences, manifests and a local image server."""
