# The base only has to bring Python 3.11 or newer, with venv and pip, and is the same for both stages.
ARG BASE=python:3.14-slim

FROM ${BASE} AS build
WORKDIR /build
RUN python3 -m venv tools && python3 -m venv --without-pip /opt/moq-token
COPY requirements/build.txt requirements/base.txt requirements/
RUN tools/bin/python -m pip --no-cache-dir --disable-pip-version-check --quiet install \
        --require-hashes --only-binary :all: --requirement requirements/build.txt \
 && tools/bin/python -m pip --no-cache-dir --disable-pip-version-check --quiet --python /opt/moq-token install \
        --require-hashes --only-binary :all: --no-compile --requirement requirements/base.txt
COPY pyproject.toml README.md LICENSE-MIT LICENSE-APACHE ./
COPY share share
COPY src src
# Compiled here, because the user that it runs as cannot; nothing in an image changes, so nothing has to be looked up.
RUN tools/bin/hatchling build --target wheel --directory dist \
 && tools/bin/python -m pip --no-cache-dir --disable-pip-version-check --quiet --python /opt/moq-token install \
        --no-deps --no-index --no-compile dist/*.whl \
 && /opt/moq-token/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/moq-token/lib

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="moq-token" \
      org.opencontainers.image.description="Keys and tokens for Media over QUIC relays: generate, sign, verify, inspect" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/moq-token /opt/moq-token
ENV PATH="/opt/moq-token/bin:${PATH}"
# A number that no account has; --user "$(id -u):$(id -g)" lets it write to a directory of yours.
USER 65532:65532
ENTRYPOINT ["moq-token-cli"]
