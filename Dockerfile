# The page in a container: CPU only, as an ordinary user, what it fetches in one volume.
FROM python:3.11-slim
RUN useradd --create-home --uid 1000 lsd && mkdir /cache && chown lsd /cache
ENV HF_HOME=/cache/huggingface GRADIO_SERVER_NAME=0.0.0.0 GRADIO_ANALYTICS_ENABLED=False LSD_PUBLIC=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY pre-requirements.txt requirements.txt ./
RUN pip install --no-cache-dir -r pre-requirements.txt && pip install --no-cache-dir -r requirements.txt
COPY --chown=lsd . .
USER 1000
VOLUME /cache
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/gradio_api/app_id', timeout=4)"]
CMD ["python", "app.py"]
