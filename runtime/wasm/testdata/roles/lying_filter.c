// A filter that answers as its configuration says ({"do": N}) in every wrong way.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O2 -msimd128 -Wall -Wextra -I../../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o lying_filter.wasm lying_filter.c
#include "tocsin.h"

TOCSIN_MANIFEST("lying_filter.json")

static int64_t todo;

TOCSIN_INIT(config) {
	todo = tocsin_config_int(config, "do", 0);
	return TOCSIN_OK;
}

TOCSIN_FILTER(batch) {
	tocsin_filter_begin(batch);
	uint8_t *bits = (uint8_t *)batch + batch->out_off;
	switch (todo) {
	case 0: tocsin_pass(batch, 0); break;
	case 1: bits[0] = 0xff; break; // bits beyond the rows
	case 2: batch->out_len = 0; break;
	case 3: batch->out_len = batch->out_cap + 1; break;
	case 4: batch->out_len = 0xffffffff; break;
	case 5: batch->out_rows = 0; break;
	case 6: batch->out_rows = 0xffffffff; break;
	case 7: batch->out_flags = 1; break;
	case 8: return -70;
	case 9: __builtin_trap();
	case 10: for (;;) bits[0] ^= 1;
	case 11: batch->out_off = 0; batch->out_cap = 0xffffffff; batch->rows = 100000; break; // the host does not look there
	case 12: return TOCSIN_TOO_SMALL; // and no more room than there is
	case 13: batch->out_len = 8 << 20; return TOCSIN_TOO_SMALL;
	case 14: batch->out_len = 2; break;
	case 15: return 1; // reserved, and taken as good
	}
	return TOCSIN_OK;
}
