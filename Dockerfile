# The project with its environment: `docker build -t twinnet .`. With JAX for a GPU: `--build-arg EXTRAS=[gpu]`.
FROM python:3.13-slim

# git and make have the versions of the base image's Debian.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 twinnet \
    && install --directory --owner=1000 --group=1000 /home/twinnet/twinnet

# A number, which a cluster that refuses root can check.
USER 1000
WORKDIR /home/twinnet/twinnet

# The environment is a layer of its own: an edit in the sources installs nothing again. It finds the package by one file.
COPY --chown=1000 Makefile pyproject.toml LICENSE requirements.lock requirements-dev.lock ./
COPY --chown=1000 docs/package.md docs/
COPY --chown=1000 src/twinnet/__init__.py src/twinnet/
RUN make .venv/runtime && .venv/bin/uv cache clean -q
ARG EXTRAS=""
RUN [ -z "$EXTRAS" ] || .venv/bin/uv pip install -q --no-cache --python .venv/bin/python -c requirements-dev.lock -e ".$EXTRAS"

COPY --chown=1000 . .
ENV PATH=/home/twinnet/twinnet/.venv/bin:$PATH
CMD ["make", "repro"]
