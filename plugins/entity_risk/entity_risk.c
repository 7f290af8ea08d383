// One risk score of many: of the scores from the highest down the i-th counts divided by i * sqrt(i), so that a hundred small things
// weigh less than a few grave ones; what an endless row of 100 would sum to is 100. A state is how often there was each score.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o entity_risk.wasm entity_risk.c
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")

enum { HIGHEST = 100, COUNTED = 1000 };

typedef struct {
	uint32_t times[HIGHEST]; // of the scores 1 to 100
} state;

static double weight[COUNTED + 1]; // of the first i scores together

static const double all = 2.612375348685488; // of endlessly many

TOCSIN_INIT(config) {
	(void)config;
	for (int i = 1; i <= COUNTED; i++) weight[i] = weight[i - 1] + 1 / (i * __builtin_sqrt(i));
	return TOCSIN_OK;
}

static void count(uint32_t *times, uint32_t n) { *times = *times > UINT32_MAX - n ? UINT32_MAX : *times + n; }

TOCSIN_UPDATE(batch) {
	state *states = (state *)tocsin_states(batch);
	const uint32_t *groups = tocsin_groups(batch);
	const int64_t *scores = (const int64_t *)tocsin_values(batch, 0);
	for (uint32_t row = 0; row < batch->rows; row++) {
		int64_t score = scores[row] < HIGHEST ? scores[row] : HIGHEST;
		if (score > 0) count(&states[groups[row]].times[score - 1], 1);
	}
	return TOCSIN_OK;
}

TOCSIN_MERGE(batch) {
	state *states = (state *)tocsin_states(batch);
	const state *more = (const state *)tocsin_source(batch);
	for (uint32_t i = 0; i < batch->rows; i++)
		for (uint32_t k = 0; k < HIGHEST; k++) count(&states[i].times[k], more[i].times[k]);
	return TOCSIN_OK;
}

static double risk(const state *s) {
	double sum = 0;
	uint32_t n = 0;
	for (uint32_t k = HIGHEST; k-- > 0 && n < COUNTED;) {
		uint32_t to = s->times[k] < COUNTED - n ? n + s->times[k] : COUNTED;
		sum += (k + 1) * (weight[to] - weight[n]);
		n = to;
	}
	return __builtin_floor(100 * sum / all + 0.5) / 100;
}

TOCSIN_FINISH(batch) {
	const state *states = (const state *)tocsin_source(batch);
	tocsin_columns_begin(batch, 1);
	double *risks = (double *)tocsin_column_begin(batch, 0, TOCSIN_F64);
	if (!risks) return tocsin_room(batch);
	for (uint32_t i = 0; i < batch->rows; i++) risks[i] = risk(&states[i]);
	return tocsin_room(batch);
}
