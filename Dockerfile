# All programs in one image; the command chooses one.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p ingest -p writer -p reconciler -p loadtest

FROM debian:bookworm-slim
COPY --from=build /src/target/release/ingest /src/target/release/writer /src/target/release/reconciler \
     /src/target/release/loadtest /usr/local/bin/
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["ingest", "--help"]
