"""One vault node."""
