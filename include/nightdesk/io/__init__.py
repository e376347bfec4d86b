"""Files in and out: raws, products, masters, sidecars and their places."""
