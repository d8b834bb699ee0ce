# The base needs Python 3.11 or newer with venv and pip, and util-linux; it is the same for both stages.
ARG BASE=python:3.14-slim

FROM ${BASE} AS build
WORKDIR /build
RUN python3 -m venv tools && python3 -m venv --without-pip /opt/moq-token
COPY requirements/build.txt requirements/image.txt requirements/
RUN tools/bin/python -m pip --no-cache-dir --disable-pip-version-check --quiet install \
        --require-hashes --only-binary :all: --requirement requirements/build.txt \
 && tools/bin/python -m pip --no-cache-dir --disable-pip-version-check --quiet --python /opt/moq-token install \
        --require-hashes --only-binary :all: --no-compile --requirement requirements/image.txt
COPY pyproject.toml README.md LICENSE-MIT LICENSE-APACHE ./
# The compiled core (the extra `fast`), if `make core` has built it. The image works without it too.
COPY README.md build/core/wheels/*.whl core/
COPY share share
COPY src src
# Compiled here, because the user that the program runs as cannot; files of an image never change, so none is checked.
RUN tools/bin/hatchling build --target wheel --directory dist \
 && tools/bin/python -m pip --no-cache-dir --disable-pip-version-check --quiet --python /opt/moq-token install \
        --no-deps --no-index --no-compile --find-links core dist/*.whl $(ls core/*.whl >/dev/null 2>&1 && echo moq-token-core) \
 && /opt/moq-token/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/moq-token/lib

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="moq-token-cli" \
      org.opencontainers.image.description="Keys, tokens and the auth server for Media over QUIC relays" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/moq-token /opt/moq-token
ENV PATH="/opt/moq-token/bin:${PATH}"
COPY scripts/image_entrypoint.py /opt/moq-token/entrypoint.py
# For `serve`, which listens on loopback unless it is told otherwise: see deploy/compose.yaml.
EXPOSE 4440
# No USER: without --user the entry point starts as root, and becomes the owner of the working directory first of all.
ENTRYPOINT ["/opt/moq-token/bin/python", "-I", "-S", "/opt/moq-token/entrypoint.py"]
