# The page in a container: CPU only, as an ordinary user, what it fetches in one volume.
FROM python:3.11-slim
RUN useradd --create-home --uid 1000 lsd && mkdir /cache && chown lsd /cache
ENV HF_HOME=/cache/huggingface GRADIO_SERVER_NAME=0.0.0.0 GRADIO_ANALYTICS_ENABLED=False LSD_PUBLIC=1 PYTHONUNBUFFERED=1
WORKDIR /app
# PyTorch's own index has builds without CUDA, a tenth of the size.
COPY requirements.txt .
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -r requirements.txt
COPY --chown=lsd . .
USER lsd
VOLUME /cache
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/gradio_api/app_id', timeout=4)"]
CMD ["python", "app.py"]
