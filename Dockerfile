# The REST API of comfyclient. How to build and run it, and where its keys come from: docs/rest.md.

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY comfyclient comfyclient
RUN python -m venv /app && /app/bin/pip install --no-cache-dir '.[api]'

FROM python:3.11-slim
COPY --from=build /app /app
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/comfyclient --shell /usr/sbin/nologin comfyclient \
    && install --directory --owner=comfyclient --group=comfyclient --mode=0700 /var/lib/comfyclient
ENV PATH=/app/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    COMFYCLIENT_STATE_DIR=/var/lib/comfyclient
USER comfyclient
VOLUME /var/lib/comfyclient
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "\
import http.client, sys; there = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); \
there.request('GET', '/healthz'); sys.exit(there.getresponse().status != 200)"]
# It drains at SIGTERM. Others than this container can reach it, so it does not start without an API key.
ENTRYPOINT ["comfyclient", "serve", "--host", "0.0.0.0"]
