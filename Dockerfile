# The image of every node: `docker build --build-arg DEVICE=cuda -t registry.example.com/fooocus-serve:0.1.0-cuda .`
# DEVICE=cpu takes PyTorch's build without CUDA, for nodes that do not draw or draw slowly. No weights are in it but the
# pocket model's: families lie in /var/lib/fooocus-serve/families, which is mounted. Not built where it was written, for
# want of a daemon: a test lints it and runs what it can of its steps (docs/operations.md, Docker).
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-trixie

ARG DEVICE=cuda
ARG CPU_INDEX=https://download.pytorch.org/whl/cpu

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# rsync is what `ray up` brings files with, wget what KubeRay asks for health with; pg_dump backs up the ledger before a new
# version changes it, and must not be older than the server.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends postgresql-client rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 ray \
    && useradd --uid 1000 --gid ray --create-home --shell /bin/bash ray \
    && install -d -o ray -g ray /var/lib/fooocus-serve /etc/fooocus-serve

# heaps for threads: deployments/memory.py says why two
ENV MALLOC_ARENA_MAX=2 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0

WORKDIR /opt/fooocus-serve

# PyTorch first, in a layer that changes with its version alone. Into the system's Python, which login shells find too.
COPY constraints.txt ./
RUN case "$DEVICE" in \
      cpu) export PIP_INDEX_URL="$CPU_INDEX" ;; \
      cuda) ;; \
      *) echo "DEVICE is $DEVICE: write cpu or cuda" >&2; exit 1 ;; \
    esac \
    && grep '^torch==' constraints.txt > /tmp/torch.txt \
    && pip install -r /tmp/torch.txt \
    && rm /tmp/torch.txt

COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY pipelines pipelines
COPY deployments deployments
COPY models models
RUN pip install -c constraints.txt .

COPY serve_config.yaml serve_config.gpu.yaml serve_config.local.yaml ./

USER 1000:1000

# Whoever starts it says what it is: `ray start --head --block` or `ray start --address=... --block`, as cluster.yaml and
# KubeRay do.
CMD ["ray", "start", "--head", "--block"]
