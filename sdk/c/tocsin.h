// tocsin.h: the plugin contract (abi/README.md) for C and C++, header only. It needs neither a libc nor an import.
//
// A detect plugin is a manifest and one function:
//
//	#include "tocsin.h"
//	TOCSIN_MANIFEST("manifest.json")
//
//	TOCSIN_DETECT(batch) {
//		tocsin_text command = tocsin_text_column(batch, 0);
//		for (uint32_t row = 0; row < batch->rows; row++)
//			if (tocsin_contains(tocsin_text_at(command, row), "-enc")) TOCSIN_HIT(batch, row, 1, 0);
//		return 0;
//	}
//
// Build: --target=wasm32-freestanding -O3 -msimd128 -nostdlib -Wl,--no-entry -Wl,--strip-all (plugins/ show whole commands).
#ifndef TOCSIN_H
#define TOCSIN_H
#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

#ifdef __cplusplus
#define TOCSIN_C extern "C"
#else
#define TOCSIN_C
#endif
#define TOCSIN_EXPORT(name) TOCSIN_C __attribute__((export_name(name)))
#define TOCSIN_IMPORT(name) TOCSIN_C __attribute__((import_module("tocsin_v1"), import_name(name)))

// TOCSIN_MANIFEST puts a file, relative to the working directory of the build, into the manifest's section. Only assembly
// makes a custom section: an attribute would make a data segment.
#define TOCSIN_MANIFEST(path) \
	__asm__(".section .custom_section.tocsin.manifest.v1,\"\",@\n.incbin \"" path "\"\n.text\n");

enum { // what exports answer
	TOCSIN_OK = 0,
	TOCSIN_NOT_FOUND = -1,
	TOCSIN_INVALID = -2,
	TOCSIN_TOO_SMALL = -3,
	TOCSIN_DENIED = -4,
	TOCSIN_QUOTA = -5,
	TOCSIN_UNSUPPORTED = -6,
	TOCSIN_BAD_ROW = -8,
	TOCSIN_OWN = -64, // and below: the plugin's own codes
};

enum { // severities of a hit; 0 takes the manifest's
	TOCSIN_INFORMATIONAL = 1,
	TOCSIN_LOW,
	TOCSIN_MEDIUM,
	TOCSIN_HIGH,
	TOCSIN_CRITICAL,
};

typedef struct {
	uint32_t magic;
	uint16_t header_size, flags;
	uint32_t total_len, rows, cols, cols_off, col_stride, out_off, out_cap, out_len;
	uint32_t states, state_size; // of aggregates
	uint32_t reserved[2];
	uint32_t out_rows, out_flags;
} tocsin_batch;

typedef struct {
	uint32_t index;
	uint16_t type, flags;
	uint32_t null_count, validity_off, data_off, data_len, offsets_off, child_off, elem_width, reserved[3];
} tocsin_column;

typedef struct {
	uint32_t row, rule;
	uint16_t severity, flags;
	uint32_t note_off;
} tocsin_hit;

typedef struct {
	uint32_t magic;
	uint16_t header_size, flags;
	uint32_t config_off, config_len, total_len, abi_minor, reserved[2];
} tocsin_init_header;

#ifdef __cplusplus
#define TOCSIN_ASSERT static_assert
#else
#define TOCSIN_ASSERT _Static_assert
#endif
TOCSIN_ASSERT(sizeof(tocsin_batch) == 64 && sizeof(tocsin_column) == 48 && sizeof(tocsin_hit) == 16 && sizeof(tocsin_init_header) == 32, "layout");

// Host functions. A row is an index of the batch; rows of a call must not go back.
// Levels of a log line: 0 debug, 1 info, 2 warning, 3 error.
TOCSIN_IMPORT("log") void tocsin_log(int32_t level, const char *text, uint32_t len);
TOCSIN_IMPORT("fail") void tocsin_fail(const char *text, uint32_t len);
TOCSIN_IMPORT("now") int64_t tocsin_now(uint32_t row);
TOCSIN_IMPORT("random") int32_t tocsin_random(uint32_t row, void *dst, uint32_t len);

// What the host keeps for the key of a row (state and key_by of the manifest). Negative answers are errors, but for NOT_FOUND:
// answer them. A get copies up to cap bytes and answers the length of all of it.
TOCSIN_IMPORT("state_get") int64_t tocsin_state_get(uint32_t row, uint32_t slot, void *dst, uint32_t cap);
TOCSIN_IMPORT("state_put") int32_t tocsin_state_put(uint32_t row, uint32_t slot, const void *value, uint32_t len);
TOCSIN_IMPORT("state_del") int32_t tocsin_state_del(uint32_t row, uint32_t slot);
TOCSIN_IMPORT("state_add") int64_t tocsin_state_add(uint32_t row, uint32_t slot, int64_t delta); // INT64_MIN: it failed
TOCSIN_IMPORT("map_get") int64_t tocsin_map_get(uint32_t row, uint32_t slot, const void *key, uint32_t key_len, void *dst, uint32_t cap);
TOCSIN_IMPORT("map_put") int32_t tocsin_map_put(uint32_t row, uint32_t slot, const void *key, uint32_t key_len, const void *value, uint32_t len); // 1: a new key
TOCSIN_IMPORT("map_del") int32_t tocsin_map_del(uint32_t row, uint32_t slot, const void *key, uint32_t key_len);
TOCSIN_IMPORT("map_count") int64_t tocsin_map_count(uint32_t row, uint32_t slot);
TOCSIN_IMPORT("map_next") int64_t tocsin_map_next(uint32_t row, uint32_t slot, const void *key, uint32_t key_len, void *dst, uint32_t cap); // key_len 0: the first

// Timers of the key of a row, one for each tag; at is ms of event time.
TOCSIN_IMPORT("timer_set") int32_t tocsin_timer_set(uint32_t row, int64_t tag, int64_t at);
TOCSIN_IMPORT("timer_del") int32_t tocsin_timer_del(uint32_t row, int64_t tag);

// A piece of text; not terminated. Up to 32 bytes before and behind a value of a batch may be read (and mean nothing).
typedef struct {
	const uint8_t *at;
	uint32_t len;
} tocsin_str;

// tocsin_literal makes one of a string literal.
#define tocsin_literal(s) ((tocsin_str){(const uint8_t *)("" s), sizeof(s) - 1})

// tocsin_lookup finds a key in a table of the manifest: the length of the row, JSON, of which the first `cap` bytes are at dst;
// TOCSIN_NOT_FOUND, or TOCSIN_DENIED if the pipeline does not grant the table.
TOCSIN_IMPORT("lookup") int64_t tocsin_lookup_at(uint32_t table, const void *key, uint32_t len, void *dst, uint32_t cap);
static inline int64_t tocsin_lookup(uint32_t table, tocsin_str key, void *dst, uint32_t cap) {
	return tocsin_lookup_at(table, key.at, key.len, dst, cap);
}

// tocsin_metric adds 0 or more to a counter of the manifest.
TOCSIN_IMPORT("metric") void tocsin_metric(uint32_t counter, int64_t delta);

static inline const tocsin_column *tocsin_column_at(const tocsin_batch *b, uint32_t i) {
	return (const tocsin_column *)((const uint8_t *)b + b->cols_off + i * b->col_stride);
}

// tocsin_is_null says whether a row has no value in a column.
static inline int tocsin_is_null(const tocsin_batch *b, uint32_t column, uint32_t row) {
	const uint8_t *valid = (const uint8_t *)b + tocsin_column_at(b, column)->validity_off;
	return !(valid[row >> 3] >> (row & 7) & 1);
}

// A column of texts (utf8).
typedef struct {
	const uint8_t *data;
	const uint32_t *offsets;
} tocsin_text;

static inline tocsin_text tocsin_text_column(const tocsin_batch *b, uint32_t i) {
	const tocsin_column *c = tocsin_column_at(b, i);
	return (tocsin_text){(const uint8_t *)b + c->data_off, (const uint32_t *)((const uint8_t *)b + c->offsets_off)};
}

static inline tocsin_str tocsin_text_at(tocsin_text c, uint32_t row) {
	return (tocsin_str){c.data + c.offsets[row], c.offsets[row + 1] - c.offsets[row]};
}

// tocsin_values is the buffer of a column of fixed width, to be cast to its type: int64_t for i64 and timestamp_ms ...
static inline const void *tocsin_values(const tocsin_batch *b, uint32_t i) {
	return (const uint8_t *)b + tocsin_column_at(b, i)->data_off;
}

// Columns that a manifest wants beside those that it reads, of timers that fired what they were set to and their tags, and of keys
// that are brought up to date the version of what they remember (u32).
enum {
	TOCSIN_EVENT_TIME = -0x100,
	TOCSIN_WATERMARK = -0xff,
	TOCSIN_TIMER_AT = -0xf0,
	TOCSIN_TIMER_TAG = -0xef,
	TOCSIN_FROM_VERSION = -0xee,
};

// tocsin_wanted is the buffer of the column with such an index, to be cast to its type; tocsin_times likewise, of those that are i64.
// NULL if the batch has none.
static inline const void *tocsin_wanted(const tocsin_batch *b, int32_t index) {
	for (uint32_t i = 0; i < b->cols; i++)
		if (tocsin_column_at(b, i)->index == (uint32_t)index) return tocsin_values(b, i);
	return NULL;
}

static inline const int64_t *tocsin_times(const tocsin_batch *b, int32_t index) { return (const int64_t *)tocsin_wanted(b, index); }

static inline uint8_t tocsin_lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; }

// tocsin_equal and tocsin_equal_nocase compare texts; without case means ASCII letters.
static inline int tocsin_equal(tocsin_str a, tocsin_str b) {
	if (a.len != b.len) return 0;
	for (uint32_t i = 0; i < a.len; i++)
		if (a.at[i] != b.at[i]) return 0;
	return 1;
}

static inline int tocsin_equal_nocase(tocsin_str a, tocsin_str b) {
	if (a.len != b.len) return 0;
	for (uint32_t i = 0; i < a.len; i++)
		if (tocsin_lower(a.at[i]) != tocsin_lower(b.at[i])) return 0;
	return 1;
}

// tocsin_find returns where a needle of at least one byte is in a text of a batch, from a place on, or the text's length. It
// looks at 16 places at a time for the needle's first and last byte. nocase takes a needle in lower case.
static inline uint32_t tocsin_find(tocsin_str s, tocsin_str needle, uint32_t from, int nocase) {
	if (needle.len == 0 || s.len < needle.len) return s.len;
	const uint32_t last = needle.len - 1, end = s.len - last;
	const uint8_t fold_first = nocase && needle.at[0] >= 'a' && needle.at[0] <= 'z' ? 0x20 : 0;
	const uint8_t fold_last = nocase && needle.at[last] >= 'a' && needle.at[last] <= 'z' ? 0x20 : 0;
	const v128_t first = wasm_u8x16_splat(needle.at[0]), tail = wasm_u8x16_splat(needle.at[last]);
	const v128_t first_case = wasm_u8x16_splat(fold_first), tail_case = wasm_u8x16_splat(fold_last);
	for (uint32_t i = from; i < end; i += 16) {
		v128_t a = wasm_v128_or(wasm_v128_load(s.at + i), first_case);
		v128_t z = wasm_v128_or(wasm_v128_load(s.at + i + last), tail_case);
		uint32_t m = wasm_i8x16_bitmask(wasm_v128_and(wasm_i8x16_eq(a, first), wasm_i8x16_eq(z, tail)));
		for (; m; m &= m - 1) {
			uint32_t at = i + (uint32_t)__builtin_ctz(m);
			if (at >= end) break;
			tocsin_str here = {s.at + at, needle.len};
			if (nocase ? tocsin_equal_nocase(here, needle) : tocsin_equal(here, needle)) return at;
		}
	}
	return s.len;
}

// tocsin_contains, tocsin_contains_nocase (ASCII letters; the needle in lower case) and tocsin_ends_nocase look for a string
// literal.
#define tocsin_contains(s, needle) tocsin_has(s, tocsin_literal(needle), 0)
#define tocsin_contains_nocase(s, needle) tocsin_has(s, tocsin_literal(needle), 1)
#define tocsin_ends_nocase(s, end) tocsin_ends(s, tocsin_literal(end))

static inline int tocsin_has(tocsin_str s, tocsin_str needle, int nocase) { return tocsin_find(s, needle, 0, nocase) < s.len; }

static inline int tocsin_ends(tocsin_str s, tocsin_str end) {
	return s.len >= end.len && tocsin_equal_nocase((tocsin_str){s.at + s.len - end.len, end.len}, end);
}

// tocsin_hit_add reports a row, ascending, and within a row rules ascending. 0 if there is no room: then answer what
// tocsin_more gives.
static inline int tocsin_hit_add(tocsin_batch *b, uint32_t row, uint32_t rule, uint16_t severity) {
	tocsin_hit *hits = (tocsin_hit *)((uint8_t *)b + b->out_off);
	if ((b->out_rows + 1) * sizeof *hits > b->out_cap) return 0;
	hits[b->out_rows++] = (tocsin_hit){row, rule, severity, 0, 0};
	b->out_len = b->out_rows * (uint32_t)sizeof *hits;
	return 1;
}

// tocsin_more asks for room for so many hits a row; the host calls again.
static inline int32_t tocsin_more(tocsin_batch *b, uint32_t hits_a_row) {
	b->out_len = b->rows * hits_a_row * (uint32_t)sizeof(tocsin_hit);
	return TOCSIN_TOO_SMALL;
}

// TOCSIN_HIT reports a row from within TOCSIN_DETECT. There is always room for one hit a row and 256 more.
#define TOCSIN_HIT(batch, row, rule, severity) \
	do { \
		if (!tocsin_hit_add(batch, row, rule, severity)) return tocsin_more(batch, 16); \
	} while (0)

// Notes are JSON objects that go with hits, behind all records of the answer. If one finds no room, tocsin_notes_done asks for more;
// one of more than 4 096 bytes is left out.
//
//	tocsin_notes notes = tocsin_notes_of(batch);
//	...
//	TOCSIN_HIT(batch, row, 1, 0);
//	tocsin_note_begin(&notes); // of the hit that was reported last
//	tocsin_note_int(&notes, "count", 3);
//	tocsin_note_text(&notes, "user", user);
//	tocsin_note_end(&notes);
//	...
//	return tocsin_notes_done(&notes);
typedef struct {
	tocsin_batch *batch;
	uint32_t from, end, at, full; // offsets in the output's space: the first note, behind the last, in the one that is written
} tocsin_notes;

static inline tocsin_notes tocsin_notes_of(tocsin_batch *b) {
	const uint32_t records = b->rows * (uint32_t)sizeof(tocsin_hit), half = b->out_cap / 2 & ~15u;
	const uint32_t from = records > half ? records : half;
	return (tocsin_notes){b, from, from, from, 0};
}

static inline void tocsin_note_put(tocsin_notes *n, uint8_t c) {
	if (n->at < n->batch->out_cap) ((uint8_t *)n->batch + n->batch->out_off)[n->at] = c;
	n->at++;
}

static inline void tocsin_note_raw(tocsin_notes *n, tocsin_str s) {
	for (uint32_t i = 0; i < s.len; i++) tocsin_note_put(n, s.at[i]);
}

static inline void tocsin_note_quoted(tocsin_notes *n, tocsin_str s) {
	tocsin_note_put(n, '"');
	for (uint32_t i = 0; i < s.len; i++) {
		if (s.at[i] < 0x20) {
			tocsin_note_raw(n, tocsin_literal("\\u00"));
			tocsin_note_put(n, (uint8_t)('0' + (s.at[i] >> 4)));
			tocsin_note_put(n, (uint8_t)((s.at[i] & 15) + ((s.at[i] & 15) > 9 ? 'a' - 10 : '0')));
			continue;
		}
		if (s.at[i] == '"' || s.at[i] == '\\') tocsin_note_put(n, '\\');
		tocsin_note_put(n, s.at[i]);
	}
	tocsin_note_put(n, '"');
}

static inline void tocsin_note_number(tocsin_notes *n, int64_t v, uint32_t decimals) {
	uint8_t text[24];
	uint32_t len = 0;
	uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
	for (; left > 0 || len < decimals + 1; left /= 10) text[len++] = (uint8_t)('0' + left % 10);
	if (v < 0) tocsin_note_put(n, '-');
	while (len > 0) {
		tocsin_note_put(n, text[--len]);
		if (len > 0 && len == decimals) tocsin_note_put(n, '.');
	}
}

static inline void tocsin_note_key(tocsin_notes *n, tocsin_str key) {
	if (n->at > n->end + 5) tocsin_note_put(n, ',');
	tocsin_note_quoted(n, key);
	tocsin_note_put(n, ':');
}

// tocsin_note_text adds a text of a batch, tocsin_note_int a number, tocsin_note_fixed a number of units of 10^-decimals (at most 18).
#define tocsin_note_text(n, key, s) (tocsin_note_key(n, tocsin_literal(key)), tocsin_note_quoted(n, s))
#define tocsin_note_int(n, key, v) tocsin_note_fixed(n, key, v, 0)
#define tocsin_note_fixed(n, key, v, decimals) (tocsin_note_key(n, tocsin_literal(key)), tocsin_note_number(n, v, decimals))

static inline void tocsin_note_begin(tocsin_notes *n) {
	n->at = n->end + 4; // behind its length
	tocsin_note_put(n, '{');
}

static inline void tocsin_note_end(tocsin_notes *n) {
	tocsin_note_put(n, '}');
	tocsin_batch *b = n->batch;
	uint8_t *out = (uint8_t *)b + b->out_off;
	const uint32_t len = n->at - n->end - 4;
	if (len > 4096 || b->out_rows == 0) return;
	if (n->at > b->out_cap) n->full = 1;
	if (n->full) return;
	__builtin_memcpy(out + n->end, &len, 4);
	((tocsin_hit *)out)[b->out_rows - 1].note_off = b->out_off + n->end;
	n->end = n->at;
}

// tocsin_notes_done is what the call answers.
static inline int32_t tocsin_notes_done(tocsin_notes *n) {
	tocsin_batch *b = n->batch;
	if (n->end > n->from && b->out_rows * sizeof(tocsin_hit) > n->from) n->full = 1; // records have run into notes
	if (!n->full) {
		if (n->end > n->from) b->out_len = n->end;
		return TOCSIN_OK;
	}
	b->out_len = 2 * b->out_cap + 4096;
	return TOCSIN_TOO_SMALL;
}

#define TOCSIN_DETECT(batch) TOCSIN_EXPORT("tocsin_process") int32_t tocsin_process(tocsin_batch *batch)

// TOCSIN_TIMER(batch) { ... } judges timers that fired; TOCSIN_MIGRATE(batch) { ... } brings what keys remember up to date.
#define TOCSIN_TIMER(batch) TOCSIN_EXPORT("tocsin_timer") int32_t tocsin_timer(tocsin_batch *batch)
#define TOCSIN_MIGRATE(batch) TOCSIN_EXPORT("tocsin_migrate") int32_t tocsin_migrate(tocsin_batch *batch)
// A filter is TOCSIN_FILTER(batch) { ... }: it begins with tocsin_filter_begin, and says of each row that passes tocsin_pass.
#define TOCSIN_FILTER(batch) TOCSIN_EXPORT("tocsin_process") int32_t tocsin_process(tocsin_batch *batch)

// tocsin_filter_begin makes the answer: no row passes. There is always room for it.
static inline void tocsin_filter_begin(tocsin_batch *b) {
	uint8_t *bits = (uint8_t *)b + b->out_off;
	b->out_rows = b->rows;
	b->out_len = (b->rows + 7) / 8;
	for (uint32_t i = 0; i < b->out_len; i++) bits[i] = 0;
}

static inline void tocsin_pass(tocsin_batch *b, uint32_t row) {
	((uint8_t *)b + b->out_off)[row >> 3] |= (uint8_t)(1 << (row & 7));
}

// A map is TOCSIN_MAP(batch) { ... }, and the finish of an aggregate answers likewise: columns are written one after the other,
// in the order of the manifest's writes. tocsin_columns_begin takes their number, then tocsin_column_begin opens each:
//
//	tocsin_columns_begin(batch, 1);
//	double *entropy = (double *)tocsin_column_begin(batch, 0, TOCSIN_F64);
//	if (!entropy) return tocsin_room(batch);
//	for (uint32_t row = 0; row < batch->rows; row++) entropy[row] = ...;
//	tocsin_set_null(batch, 0, 7);  // row 7 has no value
#define TOCSIN_MAP(batch) TOCSIN_EXPORT("tocsin_process") int32_t tocsin_process(tocsin_batch *batch)

enum { // types of columns, and the bytes of a value where each has as many
	TOCSIN_BOOL = 1,
	TOCSIN_I32,
	TOCSIN_I64,
	TOCSIN_U32,
	TOCSIN_U64,
	TOCSIN_F64,
	TOCSIN_UTF8,
	TOCSIN_TIMESTAMP_MS = 9,
	TOCSIN_IP = 10,
};

static inline uint32_t tocsin_width(uint16_t type) {
	return type == TOCSIN_I32 || type == TOCSIN_U32 ? 4 : type == TOCSIN_IP ? 16 : type == TOCSIN_BOOL || type == TOCSIN_UTF8 ? 0 : 8;
}

static inline tocsin_column *tocsin_written(tocsin_batch *b, uint32_t i) {
	return (tocsin_column *)((uint8_t *)b + b->out_off) + i;
}

// tocsin_take takes so many bytes of the output, zeros, at a multiple of 8: their offset in the batch, or 0 if there is no room.
// out_len goes on counting, so that tocsin_room can ask for what is missing.
static inline uint32_t tocsin_take(tocsin_batch *b, uint32_t n) {
	uint32_t at = (b->out_len + 7) & ~7u;
	b->out_len = at + n;
	if (b->out_len > b->out_cap) return 0;
	uint8_t *p = (uint8_t *)b + b->out_off + at;
	for (uint32_t i = 0; i < n; i++) p[i] = 0;
	return b->out_off + at;
}

static inline void tocsin_columns_begin(tocsin_batch *b, uint32_t columns) {
	b->out_rows = b->rows;
	tocsin_take(b, columns * (uint32_t)sizeof(tocsin_column));
}

// tocsin_column_begin opens a column of which every row has a value, 0 at first, and returns its values; of bool a bitmap, of utf8
// the offsets, one more than rows. NULL if there is no room.
static inline void *tocsin_column_begin(tocsin_batch *b, uint32_t i, uint16_t type) {
	uint32_t bits = (b->rows + 7) / 8, width = tocsin_width(type);
	uint32_t valid = tocsin_take(b, bits);
	uint32_t data = tocsin_take(b, type == TOCSIN_UTF8 ? 4 * (b->rows + 1) : type == TOCSIN_BOOL ? bits : width * b->rows);
	if (!valid || !data) return NULL;
	for (uint32_t row = 0; row < b->rows; row++) ((uint8_t *)b + valid)[row >> 3] |= (uint8_t)(1 << (row & 7));
	tocsin_column *c = tocsin_written(b, i);
	*c = (tocsin_column){.index = i, .type = type, .flags = 1, .validity_off = valid, .data_off = data, .elem_width = width};
	c->data_len = type == TOCSIN_BOOL ? bits : width * b->rows;
	if (type == TOCSIN_UTF8) {
		c->offsets_off = data;
		c->data_off = (b->out_off + b->out_len + 7) & ~7u; // texts are appended here
		b->out_len = c->data_off - b->out_off;
	}
	return (uint8_t *)b + data;
}

static inline void tocsin_set_null(tocsin_batch *b, uint32_t i, uint32_t row) {
	((uint8_t *)b + tocsin_written(b, i)->validity_off)[row >> 3] &= (uint8_t)~(1 << (row & 7));
	tocsin_written(b, i)->null_count++;
}

// tocsin_append_text writes the text of a row, rows ascending and none left out; column i must be the one that was begun last.
static inline void tocsin_append_text(tocsin_batch *b, uint32_t i, uint32_t row, tocsin_str s) {
	tocsin_column *c = tocsin_written(b, i);
	uint32_t at = c->data_len;
	c->data_len += s.len;
	b->out_len += s.len;
	((uint32_t *)((uint8_t *)b + c->offsets_off))[row + 1] = c->data_len;
	if (b->out_len > b->out_cap) return; // tocsin_room will say so
	uint8_t *to = (uint8_t *)b + c->data_off + at;
	uint32_t k = 0;
	for (; k + 16 <= s.len; k += 16) wasm_v128_store(to + k, wasm_v128_load(s.at + k));
	for (; k < s.len; k++) to[k] = s.at[k];
}

// tocsin_room ends an answer of columns: good, or the host is to call again with more room.
static inline int32_t tocsin_room(const tocsin_batch *b) { return b->out_len > b->out_cap ? TOCSIN_TOO_SMALL : TOCSIN_OK; }

// An aggregate is three functions over states, of state_size bytes each, zeros at first.
//
//	TOCSIN_UPDATE(batch)  row i goes into state tocsin_groups(batch)[i]
//	TOCSIN_MERGE(batch)   state i of tocsin_source, whose rows came later, goes into state i
//	TOCSIN_FINISH(batch)  the values of the states of tocsin_source, as a column
#define TOCSIN_UPDATE(batch) TOCSIN_EXPORT("tocsin_agg_update") int32_t tocsin_agg_update(tocsin_batch *batch)
#define TOCSIN_MERGE(batch) TOCSIN_EXPORT("tocsin_agg_merge") int32_t tocsin_agg_merge(tocsin_batch *batch)
#define TOCSIN_FINISH(batch) TOCSIN_EXPORT("tocsin_agg_finish") int32_t tocsin_agg_finish(tocsin_batch *batch)

// tocsin_states are the states that update and merge change in place.
static inline void *tocsin_states(const tocsin_batch *b) { return (uint8_t *)b + b->out_off; }

// tocsin_groups is the column behind those of reads: of each row the number of its state.
static inline const uint32_t *tocsin_groups(const tocsin_batch *b) { return (const uint32_t *)tocsin_values(b, b->cols - 1); }

// tocsin_source are the states that merge and finish read.
static inline const void *tocsin_source(const tocsin_batch *b) { return tocsin_values(b, 0); }

// TOCSIN_INIT(config) { ... } sees the configuration, JSON that the host has checked against the manifest's schema.
#define TOCSIN_INIT(config) \
	static int32_t tocsin_init_with(tocsin_str config); \
	TOCSIN_EXPORT("tocsin_init") int32_t tocsin_init(tocsin_init_header *h, uint32_t len) { \
		(void)len; \
		return tocsin_init_with((tocsin_str){(uint8_t *)h + h->config_off, h->config_len}); \
	} \
	static int32_t tocsin_init_with(tocsin_str config)

// TOCSIN_NO_CONFIG is for plugins that take none.
#define TOCSIN_NO_CONFIG \
	TOCSIN_EXPORT("tocsin_init") int32_t tocsin_init(tocsin_init_header *h, uint32_t len) { \
		(void)h, (void)len; \
		return 0; \
	}

// tocsin_config_int reads a whole number at the top of the configuration, or gives otherwise.
#define tocsin_config_int(config, key, otherwise) tocsin_config_number(config, tocsin_literal(key), otherwise)

static inline int64_t tocsin_config_number(tocsin_str c, tocsin_str k, int64_t otherwise) {
	int depth = 0;
	for (uint32_t i = 0; i < c.len; i++) {
		if (c.at[i] == '{' || c.at[i] == '[') depth++;
		if (c.at[i] == '}' || c.at[i] == ']') depth--;
		if (c.at[i] != '"') continue;
		uint32_t from = ++i;
		while (i < c.len && c.at[i] != '"') i += c.at[i] == '\\' ? 2 : 1;
		if (i >= c.len || depth != 1 || !tocsin_equal((tocsin_str){c.at + from, i - from}, k)) continue;
		for (i++; i < c.len && (c.at[i] == ' ' || c.at[i] == ':' || c.at[i] == '\n' || c.at[i] == '\t' || c.at[i] == '\r'); i++) {}
		int64_t v = 0, sign = 1;
		if (i < c.len && c.at[i] == '-') sign = -1, i++;
		if (i >= c.len || c.at[i] < '0' || c.at[i] > '9') return otherwise;
		for (; i < c.len && c.at[i] >= '0' && c.at[i] <= '9'; i++) v = v * 10 + (c.at[i] - '0');
		return sign * v;
	}
	return otherwise;
}

// The arena is what lies above the program's own data; it only grows. A program with an allocator of its own defines
// TOCSIN_OWN_ARENA before it includes this, and tocsin_arena.
#ifndef TOCSIN_OWN_ARENA
extern unsigned char __heap_base;
TOCSIN_EXPORT("tocsin_arena") void *tocsin_arena(uint32_t min) {
	uintptr_t at = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15, have = __builtin_wasm_memory_size(0) << 16;
	if (min > UINT32_MAX - 65536 - at) return NULL;
	if (at + min > have && __builtin_wasm_memory_grow(0, (at + min - have + 65535) >> 16) == (size_t)-1) return NULL;
	return (void *)at;
}
#endif

#endif
