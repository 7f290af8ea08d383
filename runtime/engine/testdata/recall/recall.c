// What a plugin may do with state, timers and time, one thing a row, chosen by the row's value and time: the engine's tests know what must
// come of it. Every row is a hit of rule 1, every timer one of rule 2; the note says what the host answered. passing.c and writing.c say it
// as a filter and as a map.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O2 -Wall -Wextra -msimd128 -I../../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o recall.wasm recall.c
#include "tocsin.h"

#ifndef RECALL_MANIFEST
#define RECALL_MANIFEST "recall.json"
#endif
TOCSIN_MANIFEST(RECALL_MANIFEST)
TOCSIN_NO_CONFIG

TOCSIN_IMPORT("state_get") int64_t state_get(uint32_t row, uint32_t slot, void *dst, uint32_t cap);
TOCSIN_IMPORT("state_put") int32_t state_put(uint32_t row, uint32_t slot, const void *src, uint32_t len);
TOCSIN_IMPORT("state_del") int32_t state_del(uint32_t row, uint32_t slot);
TOCSIN_IMPORT("state_add") int64_t state_add(uint32_t row, uint32_t slot, int64_t delta);
TOCSIN_IMPORT("map_get") int64_t map_get(uint32_t row, uint32_t slot, const void *key, uint32_t klen, void *dst, uint32_t cap);
TOCSIN_IMPORT("map_put") int32_t map_put(uint32_t row, uint32_t slot, const void *key, uint32_t klen, const void *src, uint32_t len);
TOCSIN_IMPORT("map_del") int32_t map_del(uint32_t row, uint32_t slot, const void *key, uint32_t klen);
TOCSIN_IMPORT("map_count") int64_t map_count(uint32_t row, uint32_t slot);
TOCSIN_IMPORT("map_next") int64_t map_next(uint32_t row, uint32_t slot, const void *key, uint32_t klen, void *dst, uint32_t cap);
TOCSIN_IMPORT("timer_set") int32_t timer_set(uint32_t row, int64_t tag, int64_t at);
TOCSIN_IMPORT("timer_del") int32_t timer_del(uint32_t row, int64_t tag);

static int64_t mod(int64_t a, int64_t b) {
	int64_t m = a % b;
	return m < 0 ? m + b : m;
}

#if defined RECALL_FILTER
static int begin(tocsin_batch *b) {
	tocsin_filter_begin(b);
	return 1;
}

// said passes a row if what there is to say of it adds up to an even number.
static int said(tocsin_batch *b, uint32_t row, uint32_t rule, int64_t r, int64_t x, int64_t had) {
	(void)rule;
	if ((((uint64_t)r + (uint64_t)x + (uint64_t)had) & 1) == 0) tocsin_pass(b, row);
	return 1;
}

static int32_t more(tocsin_batch *b) { return tocsin_room(b); }
#elif defined RECALL_MAP
static int32_t *written[3];

static int begin(tocsin_batch *b) {
	tocsin_columns_begin(b, 3);
	int room = 1;
	for (uint32_t i = 0; i < 3; i++)
		if (!(written[i] = (int32_t *)tocsin_column_begin(b, i, TOCSIN_I32))) room = 0;
	return room;
}

// said writes what there is to say, of each number the last digits.
static int said(tocsin_batch *b, uint32_t row, uint32_t rule, int64_t r, int64_t x, int64_t had) {
	(void)b, (void)rule;
	written[0][row] = (int32_t)mod(r, 1000), written[1][row] = (int32_t)mod(x, 1000), written[2][row] = (int32_t)mod(had, 1000);
	return 1;
}

static int32_t more(tocsin_batch *b) { return tocsin_room(b); }
#else
static int begin(tocsin_batch *b) {
	(void)b;
	return 1;
}

static uint8_t *put_text(uint8_t *at, const char *text) {
	while (*text) *at++ = (uint8_t)*text++;
	return at;
}

static uint8_t *put_number(uint8_t *at, int64_t n) {
	uint8_t digits[20];
	int len = 0;
	uint64_t u = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
	do digits[len++] = (uint8_t)('0' + u % 10);
	while (u /= 10);
	if (n < 0) *at++ = '-';
	while (len) *at++ = digits[--len];
	return at;
}

enum { NOTE = 96 };

// said reports a row with a note; there is a hit a row, so notes stand behind so many records.
static int said(tocsin_batch *b, uint32_t row, uint32_t rule, int64_t r, int64_t x, int64_t had) {
	uint32_t records = b->rows * 16;
	if (b->out_len == 0) b->out_len = records;
	if (b->out_len + 4 + NOTE > b->out_cap) return 0;
	uint8_t *out = (uint8_t *)b + b->out_off, *note = out + b->out_len, *at = note + 4;
	at = put_text(at, "{\"r\":");
	at = put_number(at, r);
	at = put_text(at, ",\"x\":");
	at = put_number(at, x);
	at = put_text(at, ",\"had\":");
	at = put_number(at, had);
	at = put_text(at, "}");
	uint32_t len = (uint32_t)(at - note - 4);
	__builtin_memcpy(note, &len, 4);
	((tocsin_hit *)out)[b->out_rows++] = (tocsin_hit){row, rule, 0, 0, b->out_off + b->out_len};
	b->out_len += 4 + len;
	return 1;
}

static int32_t more(tocsin_batch *b) {
	b->out_len = b->rows * (16 + 4 + NOTE) + NOTE;
	return TOCSIN_TOO_SMALL;
}
#endif

static int64_t number(const uint8_t *at, int64_t len) {
	int64_t n = 0;
	if (len == 8) __builtin_memcpy(&n, at, 8);
	return n;
}

// had is what the key remembers in short.
static int64_t had(uint32_t row) {
	int64_t value = -1, keys = map_count(row, 1);
	state_get(row, 0, &value, 8);
	return (int64_t)((uint64_t)value * 10 + (uint64_t)keys);
}

TOCSIN_DETECT(b) {
	const int64_t *vs = (const int64_t *)tocsin_values(b, 1), *times = (const int64_t *)tocsin_values(b, 2);
	tocsin_text ks = tocsin_text_column(b, 0);
	if (!begin(b)) return more(b);
	for (uint32_t row = 0; row < b->rows; row++) {
		int64_t v = vs[row], t = times[row], r = 0, x = 0, before = had(row);
		uint8_t value[8] = {0}, key[2] = {'k', (uint8_t)('0' + mod(t, 5))};
		switch (mod(v + 7 * t, 16)) {
		case 0: r = state_get(row, 0, value, 8), x = number(value, r); break;
		case 1: r = state_put(row, 0, &t, 8); break;
		case 2: r = state_del(row, 0); break;
		case 3: r = state_add(row, 0, v + 10); break;
		case 4: r = map_put(row, 1, key, 2, &t, 8), x = map_count(row, 1); break;
		case 5: r = map_get(row, 1, key, 2, value, 8), x = number(value, r); break;
		case 6: r = map_del(row, 1, key, 2), x = map_count(row, 1); break;
		case 7: { // all keys, in order
			uint8_t next[2];
			uint32_t len = 0;
			while (map_next(row, 1, next, len, next, 2) == 2) len = 2, r++, x = x * 10 + (next[1] - '0');
			break;
		}
		case 8: case 9: r = timer_set(row, mod(t, 3), t + 4 * v), x = tocsin_now(row) == INT64_MIN; break;
		case 10: r = timer_del(row, mod(t, 3)); break;
		case 11: r = state_add(row, 2, 1); break;
		case 12: r = state_del(row, 2), x = state_del(row, 1); break;
		case 13: r = map_put(row, 1, &t, 8, &t, 8), x = state_put(row, 0, &t, 8); break; // the key is too long
		case 14: r = state_get(row, 2, value, 8), x = number(value, r); break;
		case 15: { // writes a lot; of one key that fails then
			int64_t s = state_add(row, 0, 100);
			r = map_put(row, 1, key, 2, key, 2);
			x = s + timer_set(row, 9, t + 3);
			tocsin_str k = tocsin_text_at(ks, row);
			if (mod(t, 3) == 0 && k.len == 1 && k.at[0] == 'c') return -100;
		}
		}
		if (!said(b, row, 1, r, x, before)) return more(b);
	}
	return TOCSIN_OK;
}

#ifdef RECALL_TIMERS
TOCSIN_EXPORT("tocsin_timer") int32_t tocsin_timer(tocsin_batch *b) {
	const int64_t *due = (const int64_t *)tocsin_values(b, 2), *ats = (const int64_t *)tocsin_values(b, 3), *tags = (const int64_t *)tocsin_values(b, 4);
	for (uint32_t row = 0; row < b->rows; row++) {
		int64_t s = state_add(row, 2, 1);
		int64_t r = s & 3 ? timer_set(row, tags[row], ats[row] + 3) : 0;
		if (!said(b, row, 2, r, ((s * 10 + tags[row]) * 10 + (due[row] - ats[row] > 0)) * 10 + tocsin_is_null(b, 1, row), had(row))) return more(b);
	}
	return TOCSIN_OK;
}
#endif
