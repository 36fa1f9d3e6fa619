# docker build --build-arg VERSION=1.2.3 --build-arg COMMIT=$(git rev-parse HEAD) -t calltracker .
# docker run -p 8080:8080 -v calltracker:/data calltracker

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG COMMIT=unknown
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" \
      -o /out/calltracker ./server \
 && mkdir /out/data /out/tmp

# The binary is static and includes the time zone database. The image adds only
# the root certificates for outgoing HTTPS requests.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/tmp /tmp
COPY --from=build /out/calltracker /calltracker

# A numeric user, so that Kubernetes can verify that it is not root.
USER 65532:65532
ENV CALLTRACKER_DATA_DIR=/data
VOLUME ["/data"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/calltracker", "healthcheck"]
ENTRYPOINT ["/calltracker"]
CMD ["serve"]
