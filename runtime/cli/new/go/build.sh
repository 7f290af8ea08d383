#!/bin/sh
# Builds NAME.wasm. Go cannot write the manifest's section: tocsin, what TOCSIN says, or Tocsin's sources beside the SDK, adds it.
set -e
cd "$(dirname "$0")"
GOOS=wasip1 GOARCH=wasm GOWORK=off go build -buildmode=c-shared -trimpath -buildvcs=false -ldflags="-s -w -buildid=" -o NAME.wasm .
if [ -n "$TOCSIN" ] || command -v tocsin >/dev/null; then
  ${TOCSIN:-tocsin} plugin pack -o NAME.wasm --manifest manifest.json NAME.wasm
else
  here=$PWD
  (cd SDK/.. && GOWORK=off go run . plugin pack -o "$here/NAME.wasm" --manifest "$here/manifest.json" "$here/NAME.wasm")
fi
