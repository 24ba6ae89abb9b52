# Serves runs: docker run -p 127.0.0.1:8000:8000 -v "$PWD/runs/demo-1:/models/demo:ro" tellapart /models/demo
# Built from the wheel: make wheel && docker build -t tellapart .
#
# For a build that is the same tomorrow, pin the base by its digest. This file names none, as the newest base is also
# the one whose holes are mended. The digest of today's:
#   docker buildx imagetools inspect python:3.12-slim --format '{{.Manifest.Digest}}'
# and what it gives (sha256: and 64 hexadecimal digits) goes behind an @:
#   docker build --build-arg BASE=python:3.12-slim@sha256:... -t tellapart .
# The packages are those of constraints/newest.txt, which CI tries.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
COPY constraints/newest.txt /constraints.txt
COPY dist/tellapart-*.whl /wheels/
RUN python -m venv /opt/tellapart \
 && /opt/tellapart/bin/pip install --no-cache-dir --constraint /constraints.txt "$(ls /wheels/*.whl)[serve]" \
 # What only training and evaluation use; a test holds that serving imports none of it.
 && /opt/tellapart/bin/pip uninstall --yes scipy scikit-learn pip

FROM ${BASE}
COPY --from=build /opt/tellapart /opt/tellapart
ENV PATH=/opt/tellapart/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --no-create-home tellapart
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tellapart", "serve", "--host", "0.0.0.0"]
