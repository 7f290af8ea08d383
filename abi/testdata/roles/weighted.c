// An aggregate whose value depends on the order of rows: of numbers v1 ... vn the sum of i * vi, and then the last one. A number that
// is null counts as a place without a value; one below "least" ends the call, and so does one above "most" when the value is
// asked for: what tests of failures want.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o weighted.wasm weighted.c
#include "tocsin.h"

TOCSIN_MANIFEST("weighted.json")

typedef struct {
	int64_t n, values, sum, weighted, last;
} state;

static int64_t least, most;

TOCSIN_INIT(config) {
	least = tocsin_config_int(config, "least", INT64_MIN);
	most = tocsin_config_int(config, "most", INT64_MAX);
	return TOCSIN_OK;
}

TOCSIN_UPDATE(batch) {
	state *states = (state *)tocsin_states(batch);
	const uint32_t *groups = tocsin_groups(batch);
	const int64_t *numbers = (const int64_t *)tocsin_values(batch, 0);
	for (uint32_t row = 0; row < batch->rows; row++) {
		state *s = &states[groups[row]];
		s->n++;
		if (tocsin_is_null(batch, 0, row)) continue;
		if (numbers[row] < least) __builtin_trap();
		s->values++;
		s->sum += numbers[row];
		s->weighted += s->n * numbers[row];
		s->last = numbers[row];
	}
	return TOCSIN_OK;
}

// The places of later rows move by the number of the earlier ones.
TOCSIN_MERGE(batch) {
	state *states = (state *)tocsin_states(batch);
	const state *later = (const state *)tocsin_source(batch);
	for (uint32_t i = 0; i < batch->rows; i++) {
		states[i].weighted += later[i].weighted + states[i].n * later[i].sum;
		states[i].sum += later[i].sum;
		states[i].n += later[i].n;
		states[i].values += later[i].values;
		if (later[i].values) states[i].last = later[i].last;
	}
	return TOCSIN_OK;
}

TOCSIN_FINISH(batch) {
	const state *states = (const state *)tocsin_source(batch);
	tocsin_columns_begin(batch, 1);
	int64_t *values = (int64_t *)tocsin_column_begin(batch, 0, TOCSIN_I64);
	if (!values) return tocsin_room(batch);
	for (uint32_t i = 0; i < batch->rows; i++) {
		if (states[i].sum > most) __builtin_trap();
		values[i] = 1000 * states[i].weighted + states[i].last;
		if (!states[i].values) tocsin_set_null(batch, 0, i);
	}
	return tocsin_room(batch);
}
