# kiss3d on the CPU, or on a GPU with the NVIDIA container toolkit. Nothing is compiled: no compiler, no CUDA toolkit.
#   docker build -t kiss3d .
#   docker run --rm -v "$PWD:/work" kiss3d run image.png
#   docker run --rm --gpus all -v "$PWD:/work" -v ~/.cache/huggingface:/home/kiss3d/.cache/huggingface kiss3d run image.png
FROM python:3.12-slim

WORKDIR /opt/kiss3d
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY src src
RUN pip install --no-cache-dir -c constraints.txt '.[flux,matting]' \
    && useradd --create-home kiss3d

USER kiss3d
WORKDIR /work
ENTRYPOINT ["kiss3d"]
CMD ["--help"]
