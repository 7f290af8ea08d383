#!/bin/sh
# Builds NAME.wasm: pip install ziglang==0.17.0
set -e
cd "$(dirname "$0")"
cache=$(mktemp -d) # zig's own does not see a changed manifest
trap 'rm -rf "$cache"' EXIT
ZIG_GLOBAL_CACHE_DIR="$cache" ZIG_LOCAL_CACHE_DIR="$cache" python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I"SDK/c" \
  -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o NAME.wasm NAME.c
