"""The steps of a reduction, one function per task: named files in, one named product out."""
