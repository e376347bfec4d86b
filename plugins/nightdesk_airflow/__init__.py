"""What Airflow needs to run Nightdesk: a sensor with its trigger, operators, and the translation of errors.

Nothing here is imported at a Dag's top level unless it is as light as `airflow.sdk` itself: a Dag file is
parsed again and again. The package `nightdesk` and everything numerical is imported inside the tasks.
"""
