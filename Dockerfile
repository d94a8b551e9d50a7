# The daemon in an image: build with `docker build -t tail-sampling-selector .` (or buildah, or podman).
# A mirror or a digest in place of the tag: --build-arg PYTHON_IMAGE=... It is the same image in both stages.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && apt-get clean && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# `--build-arg PARQUET=yes` adds pyarrow, which exporters of type parquet need: some 150 MB.
ARG PARQUET=no
WORKDIR /src
COPY requirements.lock requirements-runtime.lock ./
# /opt/build compiles and stays behind; /opt/tss goes into the image, and has no pip.
# What builds the package comes from the lock as well, by name: a block of it begins with the name at the line's start.
RUN awk '/^[a-z]/ { wanted = /^(cython|setuptools|wheel)==/ } wanted' requirements.lock > requirements-build.lock \
 && python -m venv /opt/build \
 && python -m venv --without-pip /opt/tss \
 && /opt/build/bin/pip install --quiet --require-hashes --no-deps -r requirements-build.lock \
 && /opt/build/bin/pip --python /opt/tss/bin/python install --quiet --require-hashes --no-deps --no-compile \
      --only-binary :all: -r requirements-runtime.lock
RUN if [ "$PARQUET" = yes ]; then \
      awk '/^[a-z]/ { wanted = /^pyarrow==/ } wanted' requirements.lock > requirements-parquet.lock \
      && /opt/build/bin/pip --python /opt/tss/bin/python install --quiet --require-hashes --no-deps --no-compile \
           --only-binary :all: -r requirements-parquet.lock; \
    fi
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY tss tss
# A missing compiler makes a slow daemon and no failure, so it is asked. The C that was compiled is no use at run time.
# Byte code is made here, for nothing can be written there; by hash, so that it does not depend on when it was made.
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /opt/build/bin/pip --python /opt/tss/bin/python install --quiet --no-deps --no-index --no-compile /wheel/*.whl \
 && /opt/tss/bin/python -I -c 'from tss.core.otlp import SCANNER; assert SCANNER == "compiled", SCANNER' \
 && find /opt/tss -name '*.pyx' -delete \
 && /opt/tss/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/tss/lib

FROM ${PYTHON_IMAGE}
# What the deployment guide looks with: is the broker's port open, what does /health say.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends curl netcat-openbsd \
 && apt-get clean && rm -rf /var/lib/apt/lists/*
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tail-sampling-selector" \
      org.opencontainers.image.description="Reads OTLP spans from Kafka, decides once per whole trace, loses nothing it keeps" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/tss /opt/tss
ENV PATH=/opt/tss/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Nothing has to be written. Who wants dead letters in a file, or an exporter of type file, mounts a volume here; without
# one they are in the log.
WORKDIR /var/lib/tss
# By number, so that Kubernetes' runAsNonRoot can tell without looking into the image.
USER 1000:1000
EXPOSE 8080 9090
# Alive, not ready: a destination that is away is no reason to restart. Kubernetes has probes of its own instead.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:%s/health/live' % os.environ.get('TSS_OBSERVABILITY_HEALTH_PORT', '8080'), timeout=4)"]
STOPSIGNAL SIGTERM
# No shell between: the daemon is process 1, and SIGTERM is its own.
ENTRYPOINT ["python", "-m", "tss"]
