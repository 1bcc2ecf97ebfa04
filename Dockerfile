# AI Studio for a Ray cluster (KubeRay) or alone. One image for CPU and GPU nodes: torch's Linux wheels bring CUDA along.
#
#   docker build -t registry.example.com/aistudio:0.1.0 .
#   docker run --rm -v "$PWD:/data" registry.example.com/aistudio:0.1.0 aistudio score --conf /data/conf/x.yaml
FROM python:3.11.14-slim-bookworm

# libgomp1: OpenMP of torch and scikit-learn. wget: KubeRay's health probes of Ray nodes call it.
# Not pinned: Debian drops old builds from its mirrors with every point release, and a pin would then break the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 ray

WORKDIR /app

# The requirements change less often than the code: a layer of their own.
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock

# Code, built-in confs and the demo's weights become one wheel; nothing of the checkout stays.
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE CHANGELOG.md ./
COPY aistudio ./aistudio
COPY conf ./conf
COPY weights/demo ./weights/demo
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && rm -rf -- ./*

# glibc: keep the memory of large images (docs/performance.md).
ENV PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    MALLOC_ARENA_MAX=1 \
    MALLOC_MMAP_THRESHOLD_=268435456 \
    MALLOC_TRIM_THRESHOLD_=268435456

USER 1000

CMD ["aistudio", "--help"]
