// A detect plugin whose rule is JavaScript: QuickJS-NG and this adapter make one module, into which `tocsin plugin pack
// --script` puts the rule. The script defines one of
//
//	function detect(f0, f1, ...)   called for each row with the fields of the manifest as strings; returns a rule's number,
//	                               true for rule 1, or nothing
//	function process(batch)        called for each batch: batch.rows, .text(col, row), .has(col, row, needle), .hit(row, rule, severity)
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define TOCSIN_OWN_ARENA // QuickJS's allocator has the heap
#include "tocsin.h"
#include "quickjs.h"

#define SCRIPT_CAP (64 << 10)
#define MAX_COLS 32

// Zero, so that it takes no room in the file. The packer finds it by its exported address and must know SCRIPT_CAP.
struct {
	uint32_t len;
	char text[SCRIPT_CAP + 1];
} tocsin_script;

static uint32_t row_now; // which the script is looking at

// The clock is the watermark: these replace the libc's, so Date is deterministic and no WASI clock is imported.
int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
	(void)tz;
	int64_t ms = tocsin_now(row_now);
	tv->tv_sec = ms / 1000;
	tv->tv_usec = (int)(ms % 1000) * 1000;
	return 0;
}
int clock_gettime(clockid_t id, struct timespec *ts) {
	(void)id;
	int64_t ms = tocsin_now(row_now);
	ts->tv_sec = ms / 1000;
	ts->tv_nsec = (int)(ms % 1000) * 1000000;
	return 0;
}

static JSRuntime *rt;
static JSContext *ctx;
static JSValue detect_fn, process_fn, batch_obj;
static tocsin_batch *cur;
static tocsin_text cols[MAX_COLS];
static uint32_t n_cols, n_hits;
static void *arena;
static uint32_t arena_cap;

static int32_t fail_js(void) {
	JSValue e = JS_GetException(ctx);
	size_t n;
	const char *s = JS_ToCStringLen(ctx, &n, e);
	if (s) tocsin_fail(s, (uint32_t)n);
	JS_FreeCString(ctx, s);
	JS_FreeValue(ctx, e);
	return -64;
}

static int add_hit(uint32_t row, uint32_t rule, uint32_t severity) {
	if (row >= cur->rows || (n_hits + 1) * sizeof(tocsin_hit) > cur->out_cap) return -1;
	((tocsin_hit *)((uint8_t *)cur + cur->out_off))[n_hits++] = (tocsin_hit){row, rule, (uint16_t)severity, 0, 0};
	return 0;
}

static int cell(JSValueConst *argv, const char **p, size_t *n) {
	uint32_t c, r;
	if (JS_ToUint32(ctx, &c, argv[0]) || JS_ToUint32(ctx, &r, argv[1])) return -1;
	if (c >= n_cols || r >= cur->rows) {
		JS_ThrowRangeError(ctx, "no such column or row");
		return -1;
	}
	*p = (const char *)cols[c].data + cols[c].offsets[r];
	*n = (size_t)(cols[c].offsets[r + 1] - cols[c].offsets[r]);
	return 0;
}

static JSValue js_text(JSContext *c, JSValueConst this, int argc, JSValueConst *argv) {
	(void)this, (void)argc;
	const char *p;
	size_t n;
	if (cell(argv, &p, &n)) return JS_EXCEPTION;
	return JS_NewStringLen(c, p, n);
}

static JSValue js_has(JSContext *c, JSValueConst this, int argc, JSValueConst *argv) {
	(void)this, (void)argc;
	const char *p;
	size_t n, m;
	if (cell(argv, &p, &n)) return JS_EXCEPTION;
	const char *needle = JS_ToCStringLen(c, &m, argv[2]);
	if (!needle) return JS_EXCEPTION;
	int found = memmem(p, n, needle, m) != NULL;
	JS_FreeCString(c, needle);
	return JS_NewBool(c, found);
}

static JSValue js_hit(JSContext *c, JSValueConst this, int argc, JSValueConst *argv) {
	(void)this, (void)argc;
	uint32_t a[3];
	for (int i = 0; i < 3; i++)
		if (JS_ToUint32(c, &a[i], argv[i])) return JS_EXCEPTION;
	return add_hit(a[0], a[1], a[2]) ? JS_ThrowRangeError(c, "no room for the hit, or no such row") : JS_UNDEFINED;
}

TOCSIN_EXPORT("tocsin_arena") void *tocsin_arena_(uint32_t min) {
	if (min <= arena_cap) return arena;
	if (min > (64u << 20)) return NULL;
	arena_cap = (min + min / 2 + 65535) & ~65535u;
	free(arena);
	arena = aligned_alloc(16, arena_cap);
	if (!arena) arena_cap = 0;
	return arena;
}

TOCSIN_EXPORT("tocsin_init") int32_t tocsin_init_(uint32_t off, uint32_t len) {
	(void)off, (void)len;
	rt = JS_NewRuntime();
	if (!rt) return -7;
	JS_SetMemoryLimit(rt, 8 << 20);
	JS_SetMaxStackSize(rt, 256 << 10);
	ctx = JS_NewContext(rt);
	if (!ctx) return -7;
	JSValue v = JS_Eval(ctx, tocsin_script.text, tocsin_script.len, "rule.js", JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_STRICT);
	if (JS_IsException(v)) return fail_js();
	JS_FreeValue(ctx, v);
	JSValue g = JS_GetGlobalObject(ctx);
	detect_fn = JS_GetPropertyStr(ctx, g, "detect");
	process_fn = JS_GetPropertyStr(ctx, g, "process");
	JS_FreeValue(ctx, g);
	if (!JS_IsFunction(ctx, detect_fn) && !JS_IsFunction(ctx, process_fn)) {
		static const char m[] = "the script defines neither detect nor process";
		tocsin_fail(m, sizeof m - 1);
		return -64;
	}
	batch_obj = JS_NewObject(ctx);
	JS_SetPropertyStr(ctx, batch_obj, "text", JS_NewCFunction(ctx, js_text, "text", 2));
	JS_SetPropertyStr(ctx, batch_obj, "has", JS_NewCFunction(ctx, js_has, "has", 3));
	JS_SetPropertyStr(ctx, batch_obj, "hit", JS_NewCFunction(ctx, js_hit, "hit", 3));
	return 0;
}

static int32_t each_row(void) {
	JSValue argv[MAX_COLS];
	for (uint32_t i = 0; i < cur->rows; i++) {
		row_now = i;
		for (uint32_t c = 0; c < n_cols; c++) {
			const uint32_t *o = cols[c].offsets + i;
			argv[c] = JS_NewStringLen(ctx, (const char *)cols[c].data + o[0], (size_t)(o[1] - o[0]));
		}
		JSValue r = JS_Call(ctx, detect_fn, JS_UNDEFINED, (int)n_cols, argv);
		for (uint32_t c = 0; c < n_cols; c++) JS_FreeValue(ctx, argv[c]);
		if (JS_IsException(r)) return fail_js();
		int32_t rule = 0;
		JS_ToInt32(ctx, &rule, r);
		JS_FreeValue(ctx, r);
		if (rule && add_hit(i, (uint32_t)rule, 0)) return -3;
	}
	return 0;
}

TOCSIN_EXPORT("tocsin_process") int32_t tocsin_process_(tocsin_batch *b) {
	cur = b;
	n_hits = row_now = 0;
	n_cols = b->cols < MAX_COLS ? b->cols : MAX_COLS;
	for (uint32_t c = 0; c < n_cols; c++) cols[c] = tocsin_text_column(b, c);
	JS_UpdateStackTop(rt);
	int32_t rc = 0;
	if (JS_IsFunction(ctx, process_fn)) {
		JS_SetPropertyStr(ctx, batch_obj, "rows", JS_NewUint32(ctx, b->rows));
		JSValue r = JS_Call(ctx, process_fn, JS_UNDEFINED, 1, &batch_obj);
		if (JS_IsException(r)) rc = fail_js();
		JS_FreeValue(ctx, r);
	} else {
		rc = each_row();
	}
	b->out_len = n_hits * (uint32_t)sizeof(tocsin_hit);
	b->out_rows = n_hits;
	return rc;
}
