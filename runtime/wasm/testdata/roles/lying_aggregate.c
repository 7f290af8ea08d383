// An aggregate that answers as its configuration says ({"do": N}) in every wrong way; a state counts its rows.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O2 -msimd128 -Wall -Wextra -I../../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o lying_aggregate.wasm lying_aggregate.c
#include "tocsin.h"

TOCSIN_MANIFEST("lying_aggregate.json")

static int64_t todo;

TOCSIN_INIT(config) {
	todo = tocsin_config_int(config, "do", 0);
	return TOCSIN_OK;
}

static int32_t lie(tocsin_batch *batch) {
	switch (todo) {
	case 1: case 11: batch->out_len -= 8; break; // of another size than it is
	case 2: case 12: batch->out_len = 0xffffffff; break;
	case 3: case 13: batch->out_rows = batch->rows; break;
	case 4: case 14: batch->out_flags = 1; break;
	case 5: case 15: return -70;
	case 6: case 16: __builtin_trap();
	case 7: case 17: for (volatile int i = 0;;) i++;
	case 8: case 18: batch->out_len += 8; return TOCSIN_TOO_SMALL;
	case 9: case 19: batch->states = 1, batch->state_size = 1, batch->out_off = 0; break; // the host does not look there
	}
	return TOCSIN_OK;
}

TOCSIN_UPDATE(batch) {
	int64_t *states = (int64_t *)tocsin_states(batch);
	for (uint32_t row = 0; row < batch->rows; row++) states[tocsin_groups(batch)[row]]++;
	return todo < 10 ? lie(batch) : TOCSIN_OK;
}

TOCSIN_MERGE(batch) {
	int64_t *states = (int64_t *)tocsin_states(batch);
	for (uint32_t i = 0; i < batch->rows; i++) states[i] += ((const int64_t *)tocsin_source(batch))[i];
	return todo > 10 && todo < 20 ? lie(batch) : TOCSIN_OK;
}

TOCSIN_FINISH(batch) {
	tocsin_columns_begin(batch, 1);
	int64_t *values = (int64_t *)tocsin_column_begin(batch, 0, TOCSIN_I64);
	if (!values) return tocsin_room(batch);
	for (uint32_t i = 0; i < batch->rows; i++) values[i] = ((const int64_t *)tocsin_source(batch))[i];
	int64_t got = 0;
	switch (todo) {
	case 21: batch->out_len = batch->out_cap + 1; break;
	case 22: batch->out_rows = 0; break;
	case 23: tocsin_written(batch, 0)->data_off = 0; break;
	case 24: tocsin_written(batch, 0)->type = TOCSIN_F64; break;
	case 25: return -70;
	case 26: __builtin_trap();
	case 27: values[0] = tocsin_now(0); break; // there is no row: -8
	case 28: values[0] = tocsin_random(0, &got, 8); break;
	}
	return TOCSIN_OK;
}
