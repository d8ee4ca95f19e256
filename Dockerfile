# A static binary, certificates to check others with, and nothing else.
#
#   docker build -t sluice .
#   docker run --rm -p 127.0.0.1:8080:8080 sluice --dev --listen 0.0.0.0:8080

FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS build
RUN apk add --no-cache ca-certificates git
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w" -o /sluice .

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /sluice /sluice
USER 65532:65532
EXPOSE 8080
# It asks where SLUICE_LISTEN says, not where a flag says: with --listen on another port, set the variable instead.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/sluice", "health"]
ENTRYPOINT ["/sluice"]
