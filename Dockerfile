# Serves runs: docker run -p 127.0.0.1:8000:8000 -v "$PWD/runs/demo-1:/models/demo:ro" tellapart /models/demo
# Built from the wheel: make wheel && docker build -t tellapart .
#
# For a reproducible build, pin the base image by digest. This file names none, as the newest image has the latest
# security fixes. Today's digest:
#   docker buildx imagetools inspect python:3.12-slim --format '{{.Manifest.Digest}}'
# Append the result (sha256: and 64 hexadecimal digits) after an @:
#   docker build --build-arg BASE=python:3.12-slim@sha256:... -t tellapart .
# The packages are those of constraints/newest.txt, which CI tests.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
COPY constraints/newest.txt /constraints.txt
COPY dist/tellapart-*.whl /wheels/
RUN python -m venv /opt/tellapart \
 && /opt/tellapart/bin/pip install --no-cache-dir --constraint /constraints.txt "$(ls /wheels/*.whl)[serve]" \
 # Packages used only in training and evaluation; a test ensures that serving imports none of them.
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
