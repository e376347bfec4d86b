"""Arrays in, arrays out: the arithmetic of CCD reduction, without files, headers or logging."""
