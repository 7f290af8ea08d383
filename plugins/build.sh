#!/usr/bin/env bash
# Builds every plugin, the rules of the benchmark and guests of tests; with --check builds to a temporary place and compares with what is committed.
# C by the command in its source's first comment (pip install ziglang==0.17.0), Rust by Debian's rustc-web, cargo-web, rust-web-src and
# lld-22, Go by go. A compiler that is not here, or is of another version than the one that built what is committed, is said, and passes.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD check=
[ "${1:-}" = --check ] && check=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ZIG_GLOBAL_CACHE_DIR="$work/zig" ZIG_LOCAL_CACHE_DIR="$work/zig" # the cache does not see a changed manifest

# what built the committed modules
zig_version="0.17.0"
rust_version="rustc 1.96.0"
go_version="go1.26.8"

missing() {
  echo "plugins: $1 is not rebuilt, $2 is not there; the committed modules are used"
  [ -n "$check" ] || failed=1
}
failed=

# done_with takes a module that was built, and what is to be said instead of comparing it.
done_with() {
  local built=$1 dir=$2 name=$3 note=${4:-}
  chmod 644 "$built"
  if [ -z "$check" ]; then
    cp "$built" "$dir/$name.wasm"
  elif [ -z "$note" ]; then
    cmp "$built" "$dir/$name.wasm" || { echo "plugins: $dir/$name.wasm is not what its source builds; run plugins/build.sh"; exit 1; }
  else
    note=", not compared: $note"
  fi
  echo "plugins: $name, $(stat -c %s "$built") bytes$note"
}

build_c() {
  local dir name build
  dir=$(dirname "$1") name=$(basename "$1" .c)
  build=$(sed -n 's|^//	\(python3 -m ziglang .*\)$|\1|p' "$1")
  (cd "$dir" && out="$work/$name.wasm" && eval "${build/-o $name.wasm/-o \"\$out\"}")
  done_with "$work/$name.wasm" "$dir" "$name"
}
build_rust() { # RUSTFLAGS, even empty, would replace the flags of .cargo/config.toml
  local dir name note=
  dir=$(dirname "$1") name=$(basename "$(dirname "$1")")
  (cd "$dir" && unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS && RUSTC_BOOTSTRAP=1 PATH=/usr/bin:/bin CARGO_TARGET_DIR="$work/rust" \
    /usr/bin/cargo build --quiet --release --offline --locked --config "$root/sdk/rust/debian.toml" \
    --config "target.wasm32-unknown-unknown.rustflags=['--remap-path-prefix=$root=']")
  /usr/bin/rustc --version | grep -qF "$rust_version" || note="built with $(/usr/bin/rustc --version)"
  done_with "$work/rust/wasm32-unknown-unknown/release/$name.wasm" "$dir" "$name" "$note"
}
build_go() {
  local dir name note=
  dir=$(dirname "$1") name=$(basename "$(dirname "$1")")
  (cd "$dir" && GOOS=wasip1 GOARCH=wasm GOFLAGS= GOWORK=off go build -buildmode=c-shared -trimpath -buildvcs=false -ldflags="-s -w -buildid=" -o "$work/$name.wasm" .)
  [ "$(go env GOVERSION)" = "$go_version" ] || note="built with $(go env GOVERSION)"
  go run . plugin pack -o "$work/$name.wasm" --manifest "$dir/manifest.json" "$work/$name.wasm"
  done_with "$work/$name.wasm" "$dir" "$name" "$note"
}

if [ "$(python3 -m ziglang version 2>/dev/null)" = "$zig_version" ]; then
  for source in plugins/*/*.c bench/rules/*.c runtime/engine/testdata/*/*.c abi/testdata/roles/*.c runtime/wasm/testdata/*.c runtime/wasm/testdata/roles/*.c; do build_c "$source"; done
else
  missing C "ziglang $zig_version (pip install ziglang==$zig_version)"
fi
if [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust/library/vendor ] && command -v wasm-ld-22 >/dev/null; then
  for source in plugins/*/Cargo.toml; do build_rust "$source"; done
else
  missing Rust "Debian's rustc-web (apt-get install rustc-web cargo-web rust-web-src lld-22)"
fi
for source in plugins/*/go.mod; do build_go "$source"; done
[ -z "$failed" ]
