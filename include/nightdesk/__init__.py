"""Nightdesk: an observatory's night, reduced by itself.

The arithmetic, the files and the steps of a reduction, as a plain package that knows nothing of Airflow.
`science` works on arrays, `io` on files, `steps` joins the two, one function per task.
"""

__version__ = "0.1.0"
