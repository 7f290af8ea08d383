#!/usr/bin/env bash
# Builds the guests into OUT, those whose toolchain is here: build.sh [--check] OUT [rust zig as js]. With --check the bytes of
# those that are committed are compared; a compiler of another version than the committed one's is said, not compared.
set -euo pipefail
check=
if [ "${1:-}" = --check ]; then check=1; shift; fi
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- rust zig as js
cd "$(dirname "$0")"
here=$PWD root=$(cd ../../.. && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export ZIG_GLOBAL_CACHE_DIR="$tmp/zig-cache" ZIG_LOCAL_CACHE_DIR="$tmp/zig-cache" # it does not see a changed manifest

# what built the committed modules
rust_version="rustc 1.96.0"
zig_version="0.17.0"

have_zig() { [ "$(python3 -m ziglang version 2>/dev/null)" = "$zig_version" ]; }
have_rust() { [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust/library/vendor ] && command -v wasm-ld-22 >/dev/null; }
have_as() { command -v npm >/dev/null; }
have_js() { have_zig && command -v cargo >/dev/null; }

same_rust() { /usr/bin/rustc --version | grep -qF "$rust_version"; }
same_zig() { true; }
same_as() { true; } # package-lock.json

build_rust() { # RUSTFLAGS, even empty, would replace the flags of .cargo/config.toml
	(cd rust && unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS && RUSTC_BOOTSTRAP=1 PATH=/usr/bin:/bin CARGO_TARGET_DIR="$tmp/rust" \
		/usr/bin/cargo build --quiet --release --offline --config "target.wasm32-unknown-unknown.rustflags=['--remap-path-prefix=$here=/src']")
	cp "$tmp/rust/wasm32-unknown-unknown/release/enc.wasm" "$out/rust.wasm"
}
build_zig() { # @embedFile reads only below the source's folder
	mkdir "$tmp/zig" && cp zig/enc.zig manifest.json "$tmp/zig"
	(cd "$tmp/zig" && python3 -m ziglang build-exe enc.zig -target wasm32-freestanding -O ReleaseFast -fno-entry -rdynamic -fstrip --stack 16384 -femit-bin="$out/zig.wasm")
}
build_as() {
	cp -r as "$tmp/as" && cp manifest.json "$tmp/as"
	(cd "$tmp/as" && npm ci --silent --no-audit --no-fund >/dev/null &&
		node_modules/.bin/asc enc.ts -O3 --noAssert --runtime stub --use abort= --transform ./manifest.mjs -o "$out/as.wasm")
}
build_js() {
	cp -r js "$tmp/js"
	(cd "$tmp/js" && cargo vendor --quiet vendor >/dev/null)
	grep -q cee271d0eeba64f0915b846cb7ae02e16faf3dfdffdca91731101d9d30fe3423 "$tmp/js/vendor/rquickjs-sys/.cargo-checksum.json"
	local q=$tmp/js/vendor/rquickjs-sys/quickjs
	python3 -m ziglang cc --target=wasm32-wasi -mexec-model=reactor -O2 -msimd128 -DNDEBUG -D_GNU_SOURCE -DEMSCRIPTEN=1 -DFE_DOWNWARD=0 -DFE_UPWARD=0 -I"$q" -I"$root/sdk/c" -w \
		-Wl,--strip-all -Wl,-z,stack-size=524288 -Wl,--export=tocsin_script -o "$tmp/js.wasm" js/adapter.c js/engine.c "$q"/libregexp.c "$q"/libunicode.c "$q"/dtoa.c
	(cd "$root" && go run . plugin pack -o "$out/js.wasm" --manifest "$here/manifest.json" --script "$here/js/rule.js" "$tmp/js.wasm")
}

for guest; do
	if ! "have_$guest"; then
		echo "guests: $guest is not built: its toolchain is not here (abi/testdata/guests/README.md)"
		continue
	fi
	"build_$guest"
	chmod 644 "$out/$guest.wasm"
	note=
	if [ -n "$check" ] && [ -e "$guest/$guest.wasm" ]; then
		if ! "same_$guest"; then
			note=", not compared: built with $(/usr/bin/rustc --version)"
		elif ! cmp "$out/$guest.wasm" "$guest/$guest.wasm"; then
			echo "guests: $guest/$guest.wasm is not what its source builds; build it and copy it there"
			exit 1
		fi
	fi
	echo "guests: $guest, $(stat -c %s "$out/$guest.wasm") bytes$note"
done
