# The image of both processes and the simulator, with the dependencies pinned in requirements/:
#   docker build --tag wazzup-operator:0.2.0 .
# Offline, with the wheels from "make wheelhouse":
#   docker build --tag wazzup-operator:0.2.0 --build-arg WHEELHOUSE=wheelhouse --network none .

# Any base with glibc 2.34 or later, Python 3.11 or later, venv, pip and CA certificates; its environment
# variables are not kept.
ARG BASE=docker.io/library/python:3.13-slim


# The base of the image's architecture. Its programs never run, so that no build needs emulation.
FROM ${BASE} AS base


FROM --platform=${BUILDPLATFORM} ${BASE} AS build

ARG TARGETARCH
# A folder in the build context. If it contains wheels, no index is used; requirements/ has none.
ARG WHEELHOUSE=requirements
COPY --from=base / /image/
# In the base's own files, so that it also holds for another architecture.
RUN grep --recursive --quiet --include=libc.so.6 GLIBC_2.34 /image \
 || { echo "The base has no glibc 2.34 or later. Choose another with --build-arg BASE=." >&2; exit 1; }
WORKDIR /src
COPY requirements/ requirements/
COPY ${WHEELHOUSE}/ wheels/
RUN if ls wheels/*.whl > /dev/null 2>&1; then \
      printf '[global]\nno-index = true\nfind-links = /src/wheels\n' > /etc/pip.conf; \
    fi
# The wheels of the image's architecture. Their programs, such as kopf, are not needed.
RUN case ${TARGETARCH} in \
      amd64) machine=x86_64 ;; \
      arm64) machine=aarch64 ;; \
      *) machine=${TARGETARCH} ;; \
    esac \
 && python3 -m venv --without-pip /opt/wazzup-operator \
 && packages=$(echo /opt/wazzup-operator/lib/python3*/site-packages) \
 && python3 -m pip --python /opt/wazzup-operator install --no-cache-dir --no-compile --only-binary=:all: \
      --target="$packages" --platform="manylinux_2_34_$machine" --platform="manylinux_2_28_$machine" \
      --platform="manylinux_2_17_$machine" --require-hashes --requirement requirements/runtime.txt \
 && rm -r "${packages:?}/bin"
RUN python3 -m pip install --no-cache-dir --only-binary=:all: --target=/backend \
      --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator/ operator/
RUN PYTHONPATH=/backend python3 -m pip --python /opt/wazzup-operator install --no-cache-dir --no-compile \
      --no-deps --no-build-isolation .
# Remove 155 of 216 MB that are never imported: the Kubernetes client's generated models and methods,
# which are loaded lazily, and the geographic and carrier data of phone numbers. Then compile, because
# the container's file system is read-only. The bytecode does not depend on file times, so that the
# build is reproducible.
RUN packages=$(echo /opt/wazzup-operator/lib/python3*/site-packages) \
 && rm -r "$packages"/kubernetes/client/api "$packages"/kubernetes/aio/client/api \
      "$packages"/kubernetes/client/models/*_*.py "$packages"/kubernetes/aio/client/models/*_*.py \
      "$packages"/phonenumbers/geodata "$packages"/phonenumbers/carrierdata \
      "$packages"/phonenumbers/tzdata /opt/wazzup-operator/bin/[Aa]ctivate* \
 && python3 -m compileall -qqf --invalidation-mode unchecked-hash "$packages"
# In the image's own base, remove pip and its parts (Debian's or python.org's) and all setuid and setgid
# bits. Compile the standard library: python.org's image has no bytecode, and Debian's depends on file times.
RUN find /image -depth \( -path '*/site-packages/*' -o -path '*/dist-packages/*' \
      -o -path '*/python-wheels/*' -o -path '*/ensurepip*' -o -path '*/bin/pip*' \) -delete \
 && find /image -type f -perm /6000 -exec chmod a-s {} + \
 && python3 -m compileall -qqf --invalidation-mode unchecked-hash -x 'idlelib|lib2to3|/test' -s /image \
      "/image$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && mkdir -p /image/opt && mv /opt/wazzup-operator /image/opt/


FROM scratch

ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="wazzup-operator" \
      org.opencontainers.image.description="Shows whether each WhatsApp channel connected to Wazzup works, and what a person has to do when it does not." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/ /
# kopf asks for the user's name, and the numeric user has none, so USER is set.
ENV PATH=/opt/wazzup-operator/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/ \
    USER=wazzup-operator \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Numeric, because runAsNonRoot cannot verify a name.
USER 65532:65532
WORKDIR /
# The exec form, so that SIGTERM reaches Python.
ENTRYPOINT ["wazzup-operator"]
