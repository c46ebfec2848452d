# dyme on a CPU, from the repository's root:
#   docker build -f docker/cpu.Dockerfile -t dyme .
#   docker run --rm -it -v "$PWD:/work" dyme demo
# TORCH chooses another torch; PIP_EXTRA_INDEX_URL, PyTorch's index of CPU builds, spares some 5 GB of CUDA libraries.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG TORCH=torch
ARG PIP_EXTRA_INDEX_URL
# OpenCV, which the OCR asks for, links against these two.
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
ENV VIRTUAL_ENV=/opt/dyme PATH=/opt/dyme/bin:$PATH
RUN python3 -m venv /opt/dyme && pip install --no-cache-dir "${TORCH}"
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN pip install --no-cache-dir "/source[data,llm,lora,math,ocr,play,tensorboard]" && rm -rf /source
RUN useradd --create-home dyme && mkdir /work && chown dyme /work
USER dyme
WORKDIR /work
RUN dyme recipes
ENTRYPOINT ["dyme"]
