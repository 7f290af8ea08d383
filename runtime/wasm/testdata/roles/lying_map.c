// A map that answers as its configuration says ({"do": N}) in every wrong way.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O2 -msimd128 -Wall -Wextra -I../../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o lying_map.wasm lying_map.c
#include "tocsin.h"

TOCSIN_MANIFEST("lying_map.json")

static int64_t todo;

TOCSIN_INIT(config) {
	todo = tocsin_config_int(config, "do", 0);
	return TOCSIN_OK;
}

TOCSIN_MAP(batch) {
	tocsin_columns_begin(batch, 3);
	double *f = (double *)tocsin_column_begin(batch, 0, TOCSIN_F64);
	int64_t *t = (int64_t *)tocsin_column_begin(batch, 1, TOCSIN_TIMESTAMP_MS);
	uint32_t *offsets = (uint32_t *)tocsin_column_begin(batch, 2, TOCSIN_UTF8);
	if (!f || !t || !offsets) return tocsin_room(batch);
	for (uint32_t row = 0; row < batch->rows; row++) tocsin_append_text(batch, 2, row, tocsin_literal("text"));
	tocsin_column *c = tocsin_written(batch, 0);
	uint8_t *base = (uint8_t *)batch;
	switch (todo) {
	case 1: batch->out_len = batch->out_cap + 1; break;
	case 2: batch->out_len = 100; break;
	case 3: batch->out_rows--; break;
	case 4: batch->out_flags = 4; break;
	case 5: c->index = 1; break;
	case 6: c->type = TOCSIN_I64; break;
	case 7: c->flags = 3; break;
	case 8: c->data_off = 0; break;
	case 9: c->data_off = 0xfffffff8; break;
	case 10: c->data_off = c[1].data_off + 8192; break;
	case 11: c->data_len += 8; break;
	case 12: c->elem_width = 4; break;
	case 13: c->validity_off = 8; break;
	case 14: base[c->validity_off] = 0xff; break;
	case 15: c->data_off += 4; break;
	case 16: offsets[0] = 1; break;
	case 17: offsets[1] = 0xffffffff; break;
	case 18: offsets[2] = 1; break;
	case 19: c[2].data_len = 0; break;
	case 20: base[c[2].data_off] = 0xff; break;
	case 21: base[c[2].data_off + 3] = 0xc3; base[c[2].data_off + 4] = 0xa9; break; // one character over two rows
	case 22: c[2].offsets_off = batch->out_off; break;
	case 23: c[2].data_len = 0xffffffff; break;
	case 24: return -70;
	case 25: batch->out_len = 8 << 20; return TOCSIN_TOO_SMALL;
	case 26: batch->out_len = batch->out_cap; return TOCSIN_TOO_SMALL;
	case 27: f[0] = __builtin_nan("0x7"), f[1] = -__builtin_inf(), f[2] = -0.0; break; // these four are let go
	case 28: t[0] = INT64_MIN, t[1] = 253402300800000, t[2] = -62167219200000; break;
	case 29: c->null_count = 77; break;
	case 30: c[1].validity_off = c->validity_off; break; // a bitmap for two columns
	}
	return todo == 1 ? TOCSIN_OK : tocsin_room(batch);
}
