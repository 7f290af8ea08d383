#!/bin/sh
# Builds NAME.wasm. Go cannot write the manifest's section: tocsin, or what TOCSIN says, adds it.
set -e
cd "$(dirname "$0")"
GOOS=wasip1 GOARCH=wasm GOWORK=off go build -buildmode=c-shared -trimpath -buildvcs=false -ldflags="-s -w -buildid=" -o NAME.wasm .
${TOCSIN:-tocsin} plugin pack -o NAME.wasm --manifest manifest.json NAME.wasm
