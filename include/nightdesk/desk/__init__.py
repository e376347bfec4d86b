"""What is made for people to look at, beside the products: figures, small pictures, tiles, the nights at a glance.

All of it is derived and may be deleted at will. Nothing here imports Airflow; the pages are the plugin's.
"""
