# Airflow's image with Nightdesk in it. Used by docker-compose.yaml: docker compose build
FROM apache/airflow:3.3.2-python3.11

USER root
RUN install -d -o airflow -g root -m 0775 /opt/nightdesk /opt/airflow/login /data

# The image's own environment holds dozens of providers at the versions of Airflow's constraints. Ours is
# another one beside it, with exactly the pins that the tests ran with; the image gives the rest: user,
# entry point (umask 002, waiting for the database), libraries.
USER airflow
WORKDIR /opt/nightdesk
ENV PIP_USER=0 VIRTUAL_ENV=/opt/nightdesk/.venv
COPY --chown=airflow:root pyproject.toml requirements.txt ./
COPY --chown=airflow:root tools/ tools/
COPY --chown=airflow:root include/ include/
COPY --chown=airflow:root plugins/ plugins/
RUN python -m venv .venv && .venv/bin/python tools/install.py requirements.txt
COPY --chown=airflow:root dags/ dags/

ENV PATH=/opt/nightdesk/.venv/bin:$PATH \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/nightdesk/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/nightdesk/plugins
WORKDIR /opt/airflow
