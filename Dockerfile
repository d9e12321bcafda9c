# One image for everything that is ours: each service (`python -m <its name>`) and the command line (`order-rail`).

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/order-rail
WORKDIR /build
# The dependencies have a layer of their own: a change of ours does not install them again.
COPY requirements.txt ./
RUN pip --python /opt/order-rail install --quiet --require-hashes --requirement requirements.txt
# `--build-arg EXTRAS=stripe`: not in every image, since Stripe's SDK would make it a fifth larger.
ARG EXTRAS=
COPY requirements-*.txt ./
RUN for extra in $EXTRAS; do \
      pip --python /opt/order-rail install --quiet --require-hashes --requirement requirements-$extra.txt || exit; \
    done
COPY . .
# setuptools builds the project and has no business in the image afterwards.
RUN pip --python /opt/order-rail install --quiet --no-deps --no-build-isolation . \
 && pip --python /opt/order-rail uninstall --quiet --yes setuptools

FROM python:3.13-slim
ENV PATH=/opt/order-rail/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/order-rail order_rail \
 && install --directory --owner order_rail /var/lib/order-rail/.run # a volume there takes over who owns it
COPY --from=build /opt/order-rail /opt/order-rail
COPY --chmod=755 deploy/is-ready /usr/local/bin/is-ready
USER order_rail
WORKDIR /var/lib/order-rail
CMD ["order-rail"]
