// Beaconing: a client that connects to one destination again and again at regular intervals, as an implant does that asks for orders.
//
// Of each pair the times of the last connections are kept. As soon as there are enough of them (connections), and the intervals
// between them vary by little of their mean (jitter_percent, the coefficient of variation), it is a hit: once, and not again for
// again_s. Connections within min_interval_s of another are one; a pause of more than max_interval_s begins anew.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -fno-math-errno -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o beaconing.wasm beaconing.c
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")

enum { TIMES = 0, CONNECTIONS_MAX = 64 }; // the slot; the schema's limit

// What is kept of a pair; of at, as many as there are, ascending.
typedef struct {
	int64_t alerted; // INT64_MIN: never
	int64_t at[CONNECTIONS_MAX];
} pair;

static int64_t connections, min_interval, max_interval, again; // ms
static double jitter;

TOCSIN_INIT(config) {
	connections = tocsin_config_int(config, "connections", 12);
	jitter = (double)tocsin_config_int(config, "jitter_percent", 15) / 100;
	min_interval = 1000 * tocsin_config_int(config, "min_interval_s", 20);
	max_interval = 1000 * tocsin_config_int(config, "max_interval_s", 7200);
	again = 1000 * tocsin_config_int(config, "again_s", 86400);
	if (min_interval < max_interval) return TOCSIN_OK;
	tocsin_str text = tocsin_literal("min_interval_s must be less than max_interval_s");
	tocsin_fail((const char *)text.at, text.len);
	return TOCSIN_INVALID;
}

// add puts a connection among the times, which may come in any order, and answers how many there are then; 0 if it says nothing new.
static uint32_t add(pair *p, uint32_t n, int64_t t) {
	uint32_t i = n;
	while (i > 0 && p->at[i - 1] > t) i--;
	if ((i > 0 && t - p->at[i - 1] < min_interval) || (i < n && p->at[i] - t < min_interval)) return 0;
	if (i == 0 && n > 0 && (n == connections || p->at[0] - t > max_interval)) return 0; // too old
	if (i == n && n > 0 && t - p->at[n - 1] > max_interval) {
		p->at[0] = t;
		return 1;
	}
	if (n == connections) { // the oldest goes
		n--, i--;
		for (uint32_t k = 0; k < i; k++) p->at[k] = p->at[k + 1];
	} else {
		for (uint32_t k = n; k > i; k--) p->at[k] = p->at[k - 1];
	}
	p->at[i] = t;
	return n + 1;
}

// intervals are the mean of the intervals, ms, and their coefficient of variation.
static double intervals(const pair *p, uint32_t n, double *mean) {
	double squares = 0;
	*mean = (double)(p->at[n - 1] - p->at[0]) / (n - 1);
	for (uint32_t i = 1; i < n; i++) {
		double d = (double)(p->at[i] - p->at[i - 1]) - *mean;
		squares += d * d;
	}
	return __builtin_sqrt(squares / (n - 1)) / *mean;
}

TOCSIN_DETECT(batch) {
	const int64_t *times = tocsin_times(batch, TOCSIN_EVENT_TIME);
	tocsin_notes notes = tocsin_notes_of(batch);
	for (uint32_t row = 0; row < batch->rows; row++) {
		if (tocsin_is_null(batch, 0, row) || tocsin_is_null(batch, 1, row)) continue;
		pair p;
		int64_t len = tocsin_state_get(row, TIMES, &p, sizeof p);
		if (len < 0 && len != TOCSIN_NOT_FOUND) return (int32_t)len;
		if (len < 0) len = sizeof p.alerted, p.alerted = INT64_MIN;
		uint32_t n = (uint32_t)(len / 8 - 1);
		while (n > connections) { // the configuration has become smaller
			for (uint32_t k = 1; k < n; k++) p.at[k - 1] = p.at[k];
			n--;
		}
		if ((n = add(&p, n, times[row])) == 0) continue;
		double mean, varies;
		if (n == connections && (p.alerted == INT64_MIN || p.at[n - 1] - p.alerted >= again) && (varies = intervals(&p, n, &mean)) <= jitter) {
			p.alerted = p.at[n - 1];
			TOCSIN_HIT(batch, row, 1, 0);
			tocsin_note_begin(&notes);
			tocsin_note_int(&notes, "connections", n);
			tocsin_note_fixed(&notes, "mean_interval_s", (int64_t)(mean + 0.5), 3);
			tocsin_note_fixed(&notes, "jitter_percent", (int64_t)(varies * 1000 + 0.5), 1);
			tocsin_note_fixed(&notes, "within_s", p.at[n - 1] - p.at[0], 3);
			tocsin_note_end(&notes);
		}
		int32_t code = tocsin_state_put(row, TIMES, &p, 8 * (n + 1));
		if (code < 0) return code;
	}
	return tocsin_notes_done(&notes);
}
