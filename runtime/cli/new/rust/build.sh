#!/bin/sh
# Builds NAME.wasm: rustup target add wasm32-unknown-unknown. What is behind the command goes to cargo, for Debian's rustc-web
# --config SDK/rust/debian.toml with RUSTC_BOOTSTRAP=1.
set -e
cd "$(dirname "$0")"
RUSTFLAGS="-Ctarget-feature=+simd128 -Clink-arg=-zstack-size=16384" cargo build --release --target wasm32-unknown-unknown "$@"
cp "${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/release/NAME.wasm" NAME.wasm
