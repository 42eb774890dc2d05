# The project with its environment: `docker build -t twinnet .`. With JAX for a GPU: `--build-arg EXTRAS=[gpu]`.
FROM python:3.13-slim

# git and make have the versions of the base image's Debian.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home twinnet

USER twinnet
WORKDIR /home/twinnet/twinnet

# The environment is a layer of its own: an edit in the sources installs nothing again. It finds the package by one file.
COPY --chown=twinnet Makefile pyproject.toml README.md requirements.lock requirements-dev.lock ./
COPY --chown=twinnet src/twinnet/__init__.py src/twinnet/
RUN make .venv/runtime && .venv/bin/uv cache clean -q
ARG EXTRAS=""
RUN [ -z "$EXTRAS" ] || .venv/bin/uv pip install -q --no-cache --python .venv/bin/python -c requirements.lock -e ".$EXTRAS"

COPY --chown=twinnet . .
ENV PATH=/home/twinnet/twinnet/.venv/bin:$PATH
CMD ["make", "repro"]
