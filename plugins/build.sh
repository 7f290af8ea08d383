#!/usr/bin/env bash
# Builds every plugin, and the rules of the benchmark, by the command in its source's first comment; with --check builds to a temporary place and compares.
# Wants the compiler of ziglang 0.17.0 (pip install ziglang==0.17.0); without it --check says so and passes.
set -euo pipefail
cd "$(dirname "$0")/.."
want=0.17.0
if [ "$(python3 -m ziglang version 2>/dev/null)" != "$want" ]; then
  echo "plugins: not rebuilt, ziglang $want is not there (pip install ziglang==$want); the committed modules are used"
  [ "${1:-}" = --check ] && exit 0 || exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ZIG_GLOBAL_CACHE_DIR="$work/zig" ZIG_LOCAL_CACHE_DIR="$work/zig" # the cache does not see a changed manifest
for source in plugins/*/*.c bench/rules/*.c runtime/engine/testdata/*/*.c; do
  dir=$(dirname "$source")
  name=$(basename "$source" .c)
  build=$(sed -n 's|^//	\(python3 -m ziglang .*\)$|\1|p' "$source")
  out="$PWD/$dir/$name.wasm"
  [ "${1:-}" = --check ] && out="$work/$name.wasm"
  (cd "$dir" && eval "${build/-o $name.wasm/-o \"\$out\"}")
  chmod 644 "$out"
  if [ "${1:-}" = --check ]; then
    cmp "$out" "$dir/$name.wasm" || { echo "plugins: $dir/$name.wasm is not what its source builds; run plugins/build.sh"; exit 1; }
  fi
  echo "plugins: $name, $(stat -c %s "$out") bytes"
done
