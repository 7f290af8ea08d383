// Looks up and counts as its rows say, well and badly; the log says what the host answered, and what it wrote.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o lookup.wasm lookup.c
#include "tocsin.h"

TOCSIN_MANIFEST("lookup.json")

static char room[256];

TOCSIN_INIT(config) {
	(void)config;
	tocsin_metric(0, 1); // not of a call that judges: not counted
	return tocsin_lookup(0, tocsin_literal("known"), room, sizeof(room)) == TOCSIN_DENIED ? TOCSIN_OK : TOCSIN_OWN;
}

// say logs an answer, what there is in the room up to a size, and whether there is more behind it.
static void say(int64_t answer, uint32_t size) {
	static char line[1024];
	uint32_t n = 0, len = answer < 0 ? 0 : answer < size ? (uint32_t)answer : size;
	char digits[20];
	uint32_t d = 0;
	uint64_t left = answer < 0 ? -(uint64_t)answer : (uint64_t)answer;
	if (answer < 0) line[n++] = '-';
	do digits[d++] = '0' + left % 10;
	while (left /= 10);
	while (d) line[n++] = digits[--d];
	line[n++] = ' ';
	for (uint32_t i = 0; i < len && n < 1000; i++) line[n++] = room[i];
	for (uint32_t i = len; i < sizeof(room); i++)
		if (room[i] != '.') {
			line[n++] = '!';
			break;
		}
	tocsin_log(1, line, n);
}

TOCSIN_DETECT(batch) {
	const int64_t *todo = tocsin_values(batch, 0), *number = tocsin_values(batch, 2);
	tocsin_text keys = tocsin_text_column(batch, 1);
	for (uint32_t row = 0; row < batch->rows; row++) {
		tocsin_str key = tocsin_text_at(keys, row);
		uint32_t n = number[row], size = sizeof(room);
		int64_t answer = 0;
		for (uint32_t i = 0; i < sizeof(room); i++) room[i] = '.';
		switch (todo[row]) {
		case 0: answer = tocsin_lookup(n, key, room, size); break;
		case 1: answer = tocsin_lookup(0, key, room, size = n); break;
		case 2: answer = tocsin_lookup(0, (tocsin_str){(const uint8_t *)n, 8}, room, size); break;
		case 3: answer = tocsin_lookup(0, (tocsin_str){key.at, n}, room, size); break;
		case 4: answer = tocsin_lookup(0, key, (void *)n, 8); break;
		case 5: answer = tocsin_lookup(0, key, room, 0xffffffff); break;
		case 6: answer = tocsin_lookup(0, (tocsin_str){(const uint8_t *)0xfffffff0, 0xffffffff}, (void *)0xfffffff0, 0xffffffff); break;
		case 7: answer = tocsin_lookup(0, key, (void *)0xfffffff0, 0); break;
		case 8:
			if (tocsin_lookup(n, key, 0, 0) < 0) continue; // only what is known
			break;
		case 10: tocsin_metric(n, 5); break;
		case 11: tocsin_metric(1, (int64_t)number[row]); break;
		case 12: tocsin_metric(0, 100); __builtin_trap();
		case 13: for (;;) tocsin_lookup(0, key, room, size);
		}
		say(answer, size);
		TOCSIN_HIT(batch, row, 1, 0);
	}
	return TOCSIN_OK;
}
