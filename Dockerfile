# Serves runs: docker run -p 127.0.0.1:8000:8000 -v "$PWD/runs/demo-1:/models/demo:ro" tellapart /models/demo
# Built from the wheel: python -m build --wheel && docker build -t tellapart .
FROM python:3.12-slim AS build
COPY dist/tellapart-*.whl /wheels/
RUN python -m venv /opt/tellapart \
 && /opt/tellapart/bin/pip install --no-cache-dir "$(ls /wheels/*.whl)[serve]" \
 # What only training's figures and reports use; a test holds that serving imports none of it.
 && /opt/tellapart/bin/pip uninstall --yes scipy scikit-learn matplotlib fonttools kiwisolver contourpy pip

FROM python:3.12-slim
COPY --from=build /opt/tellapart /opt/tellapart
ENV PATH=/opt/tellapart/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --no-create-home tellapart
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tellapart", "serve", "--host", "0.0.0.0"]
