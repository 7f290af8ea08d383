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
	TOCSIN_UNSUPPORTED = -6,
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
	uint32_t reserved[4];
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

// A piece of text; not terminated. Up to 32 bytes before and behind a value of a batch may be read (and mean nothing).
typedef struct {
	const uint8_t *at;
	uint32_t len;
} tocsin_str;

// tocsin_literal makes one of a string literal.
#define tocsin_literal(s) ((tocsin_str){(const uint8_t *)("" s), sizeof(s) - 1})

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

#define TOCSIN_DETECT(batch) TOCSIN_EXPORT("tocsin_process") int32_t tocsin_process(tocsin_batch *batch)

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
