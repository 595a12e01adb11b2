"""One vault node: the HTTP edge, shares between nodes, evaluation, health, start and drain."""
