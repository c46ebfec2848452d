# dyme on NVIDIA GPUs, from the repository's root; torch brings CUDA's libraries, the host its driver and the container toolkit:
#   docker build -f docker/cuda.Dockerfile -t dyme:cuda .
#   docker run --rm -it --gpus all --ipc=host -v "$PWD:/work" dyme:cuda train RECIPE
#   docker run --rm -it --gpus all --ipc=host -v "$PWD:/work" --entrypoint torchrun dyme:cuda --nproc-per-node 4 -m dyme train RECIPE
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG TORCH=torch
# OpenCV, which the OCR asks for, links against the first two; Triton compiles kernels with gcc and Python's headers.
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 gcc libc6-dev && rm -rf /var/lib/apt/lists/*
ENV VIRTUAL_ENV=/opt/dyme PATH=/opt/dyme/bin:$PATH
RUN python3 -m venv /opt/dyme && pip install --no-cache-dir "${TORCH}"
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN pip install --no-cache-dir "/source[data,llm,lora,math,ocr,play,tensorboard,wandb]" && rm -rf /source
RUN useradd --create-home dyme && mkdir /work && chown dyme /work
USER dyme
WORKDIR /work
RUN dyme recipes
ENTRYPOINT ["dyme"]
